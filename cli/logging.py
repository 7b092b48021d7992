"""Which log lines reach the user's terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

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


@contextlib.contextmanager
def command_logging() -> Iterator[None]:
    """For the duration of one command: warnings of mgnas reach standard error, and no line of another command's log.

    Afterwards the loggers of mgnas are as before. A process may run several commands, and the announcements of one,
    which `configure_logging` turns on, do not belong to the output of the next.
    """
    loggers = [logging.getLogger(name) for name in ("mgnas", *_ANNOUNCED)]
    before = [(logger.level, logger.handlers.copy()) for logger in loggers]
    if not any(isinstance(handler, _Warnings) for handler in loggers[0].handlers):
        loggers[0].addHandler(_Warnings(logging.WARNING))
    try:
        yield
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers


def configure_logging() -> None:
    """Leave the terminal to the display, for commands that search or train with Ray, until `command_logging` ends.

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
