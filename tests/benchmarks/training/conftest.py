"""Benchmarks of training are scripts that import each other from their folder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
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


@pytest.fixture(scope="session")
def dark_or_light(tmp_path_factory):
    """An npz file with 64 training and 20 test images of 8 x 8 pixels, of two classes: dark and light ones."""
    rng, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 64), ("test", 20)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 128, (count, 8, 8, 3)) + 127 * labels[:, None, None, None]
        arrays |= {f"{part}_images": pixels.astype(np.uint8), f"{part}_labels": labels}
    file = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(file, **arrays)
    return file
