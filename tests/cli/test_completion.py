"""mgnas completion: the scripts, and what they complete."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(command, shell):
    code, out, _ = command("completion", shell)
    assert code == 0
    assert f"_MGNAS_COMPLETE={shell}_complete" in out


def test_completion_knows_commands_and_options():
    def completed(words, place):
        environment = os.environ | {"_MGNAS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": place}
        run = [sys.executable, "-c", "from mgnas.cli import main; main()"]
        return subprocess.run(run, capture_output=True, text=True, check=False, env=environment).stdout

    assert completed("mgnas re", "1").split() == ["plain,report", "plain,resume", "plain,retrain"]
    assert "plain,--max-latency" in completed("mgnas select --max", "2")
    assert completed("mgnas select --prefer ex", "3").split() == ["plain,expected"]
