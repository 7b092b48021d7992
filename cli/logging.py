"""Which log lines reach the user's terminal."""

from __future__ import annotations

import logging

import click

from mgnas.errors import printable

_ANNOUNCED = {
    "mgnas.reports.deploy.verified_export": logging.INFO,
    "mgnas.search.data.cache": logging.INFO,
    "mgnas.search.data.dataset": logging.INFO,
    "mgnas.search.storage.run_directory": logging.WARNING,
    "mgnas.search.storage.run_metadata": logging.WARNING,
    "mgnas.search.storage.trial_store": logging.WARNING,
    "mgnas.search.tuner.cluster": logging.WARNING,
    "mgnas.search.tuner.controller": logging.WARNING,
    "mgnas.search.tuner.gpus": logging.INFO,
    "mgnas.search.tuner.loggers": logging.WARNING,
}
"""Logger -> from which level on its lines belong to a command's output."""


class _Announcements(logging.Handler):
    """Prints log lines that belong to a command's output."""

    def emit(self, record: logging.LogRecord) -> None:
        message = printable(record.getMessage())
        click.echo(f"{message[:1].upper()}{message[1:]}")


class _Warnings(logging.Handler):
    """Prints other warnings to standard error, as Python does for programs without logging."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger(record.name).handlers:
            click.echo(printable(record.getMessage()), err=True)


def show_warnings() -> None:
    """Let warnings of mgnas reach standard error, for all commands."""
    logger = logging.getLogger("mgnas")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


def configure_logging() -> None:
    """Leave the terminal to the display, for commands that search or train with Ray.

    What goes wrong in a trial is in its record. The conversion of a data set, which may take half a minute,
    validation images that it brings, the GPUs that are used, what quantising gave, and what is wrong with a run are
    announced.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    for name, level in _ANNOUNCED.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        if not logger.handlers:
            logger.addHandler(_Announcements())
