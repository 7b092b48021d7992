"""Which log lines reach the user's terminal."""

from __future__ import annotations

import logging

import click

_TOLD = {
    "mgnas.search.data.cache": logging.INFO,
    "mgnas.search.storage.run_directory": logging.WARNING,
    "mgnas.search.storage.run_metadata": logging.WARNING,
    "mgnas.search.tuner.cluster": logging.WARNING,
    "mgnas.search.tuner.loggers": logging.WARNING,
}


class _Echo(logging.Handler):
    """Log lines that are for the user."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.getMessage()[:1].upper()}{record.getMessage()[1:]}")


def configure_logging() -> None:
    """Leave the terminal to the display: what goes wrong in a trial is in its record.

    What announces itself is the conversion of a data set, which may take half a minute, and what is wrong with a run.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    for name, level in _TOLD.items():
        told = logging.getLogger(name)
        told.setLevel(level)
        if not told.handlers:
            told.addHandler(_Echo())
