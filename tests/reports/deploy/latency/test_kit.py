"""Kits: what they hold, and their way to another machine and back."""

import json
import subprocess
import sys
import venv

import numpy as np
import onnx
import pytest

from mgnas.errors import UserError
from mgnas.reports.deploy.export import onnx_runner
from mgnas.reports.deploy.latency.device import add_device_latencies, device_latencies
from mgnas.reports.deploy.latency.kit import write_kit
from mgnas.reports.deploy.latency.untrained import network_key


@pytest.fixture(scope="module")
def kit(_known_run, tmp_path_factory):
    """Of the two smallest networks of the run."""
    from mgnas.search.storage.run_directory import RunDirectory

    folder = tmp_path_factory.mktemp("device") / "kit"
    candidates = [record.candidate for record in RunDirectory(_known_run).load()[:2]]
    write_kit([*candidates, candidates[0]], folder)
    return folder


def measure(kit, python, *options):
    return subprocess.run(
        [python, kit / "measure.py", "--seconds", "0.01", *options], capture_output=True, text=True, cwd=kit.parent
    )


def test_a_kit_has_each_network_in_both_types(kit):
    networks = json.loads((kit / "kit.json").read_text())["networks"]
    assert len(networks) == 2
    for network in networks.values():
        images = np.zeros((3, *network["image"]), dtype=np.uint8)
        for file in network["files"].values():
            assert onnx_runner(kit / file)(images).shape == (3, 10)
        int8 = onnx.load(kit / network["files"]["int8"])
        assert any(node.op_type == "QuantizeLinear" for node in int8.graph.node)


def test_what_a_kit_measures_comes_back_into_the_run(kit, run):
    done = measure(kit, sys.executable, "--device", "this-one")
    assert done.returncode == 0, done.stderr
    candidates = [record.candidate for record in run.load()]
    add_device_latencies(run.path, [kit.parent / "latency.json"], candidates)
    device = device_latencies(run.path, "this-one", candidates)
    low, median, high = device.quartiles(candidates[0], "int8", 32)
    assert 0 < low <= median <= high
    assert device.latencies(candidates[1])[1] == device.quartiles(candidates[1])[1]
    assert device.in_words(candidates[0]).endswith("measured")
    with pytest.raises(UserError, match="device this-one: 2 networks measured in float32 are too few to predict"):
        device.latencies(candidates[4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "a b"], "--device: expected letters, digits"),
        (["--threads", "0"], "--threads: expected 1 or more, got 0"),
    ],
)
def test_bad_options_on_the_device_are_one_line(kit, options, message):
    done = measure(kit, sys.executable, *options)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert message in done.stderr.splitlines()[-1]


def test_an_incomplete_kit_says_so(kit, tmp_path):
    (tmp_path / "measure.py").write_text((kit / "measure.py").read_text())
    done = measure(tmp_path, sys.executable)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("is missing, damaged or of another version; copy the whole kit again")


def test_missing_packages_are_named_on_the_device(kit):
    command = [sys.executable, "-I", "-S", kit / "measure.py"]  # Python without what pip has installed.
    done = subprocess.run(command, capture_output=True, text=True, cwd=kit.parent)
    needs = "measure.py needs onnxruntime and numpy: python -m pip install onnxruntime numpy\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", needs)


def test_a_folder_in_use_is_refused(kit, run):
    with pytest.raises(UserError, match="is not empty; give a new folder with --kit"):
        write_kit([run.load()[0].candidate], kit)
    (file := kit.parent / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be written .*; choose another with --kit"):
        write_kit([run.load()[0].candidate], file)


@pytest.mark.slow
def test_a_device_needs_onnxruntime_and_numpy_alone(kit, tmp_path, run):
    venv.create(tmp_path / "venv", with_pip=True)
    python = next(path for path in tmp_path.glob("venv/*/python*") if path.stem == "python")
    installed = subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "numpy"], capture_output=True)
    if installed.returncode:
        pytest.skip("pip cannot reach an index")
    done = measure(kit, python, "--device", "fresh", "--output", tmp_path / "latency.json")
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "latency.json").read_text())
    assert set(measured["networks"]) == {network_key(record.candidate) for record in run.load()[:2]}
    add_device_latencies(run.path, [tmp_path / "latency.json"], [record.candidate for record in run.load()])
