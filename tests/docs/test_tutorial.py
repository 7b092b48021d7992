"""docs/tutorial.md as a stranger follows it, and what it exports in an environment without mgnas and PyTorch."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mgnas
from mgnas.cli.main import cli
from mgnas.search.config import SearchConfig
from mgnas.search.config_template import render_config
from mgnas.search.data.dataset import DataSettings, load_dataset

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
LARGEST_DIFFERENCE = 1e-4
FRESH = """
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(["logits"], {"images": numpy.load("images.npy")})
numpy.save("logits.npy", logits)
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
loaded = [name for name in ("torch", "mgnas", "onnx") if name in sys.modules]
print(json.dumps([names, loaded]))
"""


def blocks():
    """(language, text) of every block that is to be run."""
    return re.findall(r"^```(sh|python)\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)


def follow(folder):
    """Run the tutorial's blocks in a folder; returns what they printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    printed = []
    for language, text in blocks():
        command = ["bash", "-euc", text] if language == "sh" else [sys.executable, "-c", text]
        environment = os.environ | {"PATH": path}
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
        if "No matching distribution" in run.stderr:
            pytest.skip("pip reaches no index")
        assert run.returncode == 0, f"{text}\n{run.stdout}\n{run.stderr}"
        printed.append(run.stdout)
    return printed


def test_the_tutorial_covers_every_job():
    text = "".join(block for _, block in blocks())
    for command in ("init", "space", "search", "status", "report", "select", "retrain", "export", "train", "latency"):
        assert f"mgnas {command} " in text


COMMANDS = [line for language, text in blocks() if language == "sh" for line in text.splitlines() if "mgnas " in line]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_these_options(line):
    name, *arguments = shlex.split(line)[1:]
    cli.commands[name].make_context(name, arguments)  # Raises for an unknown option or a wrong value.


def test_the_limits_of_the_device_are_those_that_init_suggests(tmp_path, monkeypatch):
    """The blocks that write and change the search file, without the folder of images."""
    data = DataSettings(name="digits")
    (tmp_path / "device.yaml").write_text(render_config("photos", data, load_dataset(data)))
    (change,) = (text for language, text in blocks() if language == "python" and "device.yaml" in text)
    monkeypatch.chdir(tmp_path)
    exec(change, {})
    limits = SearchConfig.load("device.yaml").search_space().limits
    assert (limits.max_activation_memory_int8, limits.max_flash_int8) == (8_000, 16_000)


@pytest.mark.slow
def test_the_tutorial_works_as_written_and_its_model_runs_without_mgnas(tmp_path):
    outputs = follow(tmp_path)
    printed = "".join(outputs)
    assert "test accuracy" in printed
    assert "int8" in printed
    (trained,) = (tmp_path / "runs" / "first" / "retrained").iterdir()
    assert len(list(trained.glob("seed-*/model.pt"))) == 3
    assert (tmp_path / "both" / "report.html").exists()
    measured = json.loads((tmp_path / "runs" / "device" / "devices" / "pocket.json").read_text())
    assert len(measured["networks"]) >= 4
    assert "for 1 image on pocket (one thread of " in printed
    predicted, shown = (ast.literal_eval(lines.splitlines()[-1]) for lines in (outputs[-1], outputs[-2]))
    assert sum(map(str.__eq__, predicted, shown)) > len(shown) / 2
    on_device = {package.name for package in (tmp_path / "device").glob("lib/python*/site-packages/*")}
    assert {"numpy", "onnxruntime"} <= on_device
    assert not {"torch", "mgnas", "onnx"} & on_device

    venv = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy"]
    subprocess.run(install, check=True, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    images = load_dataset(DataSettings(name="digits")).test.images
    np.save(venv / "images.npy", images)
    (venv / "model.onnx").write_bytes((trained / "seed-0" / "model.onnx").read_bytes())
    run = subprocess.run([python, "-c", FRESH], cwd=venv, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    names, loaded = json.loads(run.stdout)
    assert names == [str(digit) for digit in range(10)]
    assert loaded == []
    with torch.inference_mode():
        expected = mgnas.load(trained / "seed-0")(torch.from_numpy(images)).numpy()
    assert np.abs(np.load(venv / "logits.npy") - expected).max() < LARGEST_DIFFERENCE
