"""The command line in-process."""

import pytest

from mgnas.cli.main import main


@pytest.fixture
def command(capsys):
    """Runs a command; returns (exit code, standard output, standard error)."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
