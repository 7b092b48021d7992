"""init, completion, and what the help says."""

import os
import subprocess
import sys
from xml.etree import ElementTree

import click
import pytest

from mgnas.cli.main import cli
from mgnas.search.config import SearchConfig


def test_init_writes_a_config_that_is_searched_as_it_is(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("init", "digits")
    assert code == 0
    assert out.splitlines()[-1] == "Search: mgnas search digits.yaml"
    assert "1,437 images of 10 classes, 8 x 8 pixels" in out
    assert SearchConfig.load(tmp_path / "digits.yaml").name == "digits"
    code, out, err = command("init", "digits")
    assert (code, out) == (2, "")
    assert (
        err == "mgnas: error: digits.yaml: exists already; choose another with --output, or replace it with --force\n"
    )
    assert command("init", "digits", "--force")[0] == 0
    code, _, err = command("init", "missing")
    assert code == 2
    assert err.startswith("mgnas: error: missing: no such file or folder")


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


def test_help_names_every_job_and_every_command_explains_itself(command):
    _, out, _ = command("--help")
    taught = out.split("Commands:")[0]
    for name, each in cli.commands.items():
        assert name in taught or name == "completion"
        assert each.help
        for parameter in each.params:
            if isinstance(parameter, click.Option):
                assert parameter.help or parameter.show_default, f"{name} {parameter.opts[0]}"


def test_weights_are_drawn(command, tmp_path):
    file = tmp_path / "net.svg"
    code, out, _ = command("weights", "--preset", "mgiad-g8-tinyimagenet", "--draw", file)
    assert code == 0
    assert f"Drawn: {file}" in out
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    code, _, err = command("weights", "--preset", "mgnet-cifar10", "--draw", tmp_path / "net.png")
    assert code == 2
    assert err == f"mgnas: error: --draw {tmp_path / 'net.png'}: expected a file that ends in .svg\n"
