"""All commands: what the help says, and one line for files and folders that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mgnas.cli.main import cli

from .conftest import CONFIGS


def test_help_names_every_job_and_every_command_explains_itself(command):
    _, out, _ = command("--help")
    taught = out.split("Commands:")[0]
    for name, each in cli.commands.items():
        assert name in taught or name == "completion"
        assert each.help
        for parameter in each.params:
            if isinstance(parameter, click.Option):
                assert parameter.help or parameter.show_default, f"{name} {parameter.opts[0]}"


def test_an_unknown_command_is_refused(command, refused):
    refused(command("serch"), "No such command 'serch'")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"a: [1, 2", "not valid YAML"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"", "expected a mapping"),
        (b"- 1\n- 2\n", "expected a mapping"),
        (b"just words", "expected a mapping"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"a: 1\n\tb: 2\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_config(command, tmp_path, content, part, refused):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    for name in (["search"], ["space"], ["train"], ["weights", "--config"]):
        refused(command(*name, path), path, part)


def test_missing_files_and_folders(command, tmp_path, refused):
    for name in (["search"], ["space"], ["train"], ["weights", "--config"]):
        refused(command(*name, tmp_path / "none.yaml"), "none.yaml: no such file")
        refused(command(*name, tmp_path), tmp_path, "cannot be read")
    for name in ("status", "resume", "report", "select"):
        refused(command(name, tmp_path / "none"), "none: no such run directory")
        refused(command(name, tmp_path), "config.yaml is missing")


def test_half_written_run_directory(command, run, refused):
    (run.path / "journal.jsonl").unlink()  # Without it the study cannot be rebuilt.
    (run.path / "study.db").write_bytes(b"SQLite format 3\0 cut short")
    for name in ("status", "resume", "report", "select"):
        refused(command(name, run.path), "study.db")
    (run.path / "study.db").unlink()
    for name in ("status", "resume", "report", "select"):
        refused(command(name, run.path), "study.db is missing")


def test_unwritable_places(command, run, tmp_path, refused):
    blocker = tmp_path / "file"
    blocker.write_text("")
    digits = CONFIGS / "digits.yaml"
    refused(command("search", digits, "--runs", blocker / "runs"), "cannot be written", "--runs")
    refused(command("select", run.path, "--output", blocker / "x.yaml"), "x.yaml: cannot be written")
    refused(command("report", run.path, "--output", blocker / "r"), "cannot be written", "--output")


def shell(line: str) -> subprocess.CompletedProcess:
    """A line of bash in which $MGNAS is the command."""
    environment = os.environ | {"MGNAS": f"{sys.executable} -m mgnas.cli"}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", ["--help", f"space {CONFIGS / 'digits.yaml'}"])
def test_output_into_a_full_disk_is_a_line(arguments):
    result = shell(f"$MGNAS {arguments} > /dev/full")
    assert result.returncode == 2
    assert result.stderr == (
        "mgnas: error: the output cannot be written (No space left on device); make room, or write it elsewhere\n"
    )


def test_a_closed_pipe_ends_a_command_silently():
    result = shell("$MGNAS --help | true; echo ${PIPESTATUS[0]}")
    assert (result.stdout.strip(), result.stderr) in (("141", ""), ("0", ""))
    result = shell("(sleep 3; $MGNAS --help) | true; echo ${PIPESTATUS[0]}")
    assert (result.stdout, result.stderr) == ("141\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_search_that_cannot_say_where_it_runs_leaves_no_run(tmp_path):
    result = shell(f"$MGNAS search {CONFIGS / 'digits.yaml'} --runs {tmp_path / 'runs'} > /dev/full")
    assert result.returncode == 2
    assert list((tmp_path / "runs").iterdir()) == []
