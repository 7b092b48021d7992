"""Log lines on the terminal: announcements on standard output, other warnings on standard error, each once."""

import logging

import pytest

from mgnas.cli.logging import command_logging, configure_logging


@pytest.fixture
def _as_commands_do():
    with command_logging(), command_logging():
        configure_logging()
        configure_logging()
        yield


@pytest.mark.usefixtures("_as_commands_do")
@pytest.mark.parametrize(
    ("logger", "level", "out", "err"),
    [
        ("mgnas.search.data.cache", logging.INFO, "Converting digits\n", ""),
        ("mgnas.search.tuner.cluster", logging.WARNING, "Converting digits\n", ""),
        ("mgnas.search.tuner.cluster", logging.INFO, "", ""),
        ("mgnas.search.samplers.ehvi", logging.WARNING, "", "converting digits\n"),
        ("mgnas.search.samplers.ehvi", logging.INFO, "", ""),
    ],
)
def test_where_a_line_goes(capsys, logger, level, out, err):
    logging.getLogger(logger).log(level, "converting %s", "digits")
    assert capsys.readouterr() == (out, err)


@pytest.mark.usefixtures("_as_commands_do")
def test_a_log_line_cannot_write_on_the_terminal(capsys):
    logging.getLogger("mgnas.search.tuner.cluster").warning("node %s", "\x1b[2J\nx")
    logging.getLogger("mgnas.search.samplers.ehvi").warning("node %s", "\x1b[2J\nx")
    assert capsys.readouterr() == ("Node \\x1b[2J\\nx\n", "node \\x1b[2J\\nx\n")


def test_the_announcements_of_a_command_end_with_it(command, run, capsys):
    """They are turned on by `status`; the output of the process's next command, `init`, has none."""
    assert command("status", run.path)[0] == 0
    logging.getLogger("mgnas.search.data.cache").info("converting")
    assert capsys.readouterr() == ("", "")
