"""Benchmarks of training are scripts that import each other from their folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "benchmarks" / "training"
sys.path.insert(0, str(SCRIPTS))


@pytest.fixture
def run_benchmark(tmp_path):
    """(script, further arguments) -> its rows of one repetition of 2 steps of a case, by default the smallest."""

    def run(script: str, *arguments: str, case: str = "digits-mgnet") -> list[dict]:
        command = [sys.executable, SCRIPTS / script, "--cases", case, "--steps", "2", "--threads", "1"]
        command += ["--repetitions", "1", "--output", tmp_path / "out"]
        subprocess.run([*command, *arguments], check=True, timeout=300)
        assert (tmp_path / "out.md").read_text().startswith("| case |")
        return json.loads((tmp_path / "out.json").read_text())["results"]

    return run
