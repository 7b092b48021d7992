"""mgnas latency: the front's networks here, kits for other devices, and what came back."""

import json
import shutil

import pytest
import yaml

from mgnas.api import open_run
from mgnas.reports.deploy.latency.device import add_device_latencies
from mgnas.reports.deploy.latency.meter import LatencyMeter, network_key
from mgnas.search.config import SearchConfig


@pytest.fixture
def device_file(run, tmp_path):
    """As if a raspberry needed 1 ms for the smallest network of the front, 2 for the next, and so on."""
    networks = {}
    for index, number in enumerate((0, 2, 3, 4), start=1):
        times = {"1": 3 * [index], "32": 3 * [32 * index]}
        networks[network_key(run.load()[number].candidate)] = {"float32": times, "int8": times}
    file = tmp_path / "latency.json"
    machine = {"threads": 4, "processor": "armv8", "onnxruntime": "1.20.0"}
    file.write_text(json.dumps({"format": 1, "device": "raspberry", **machine, "networks": networks}))
    return file


@pytest.fixture
def device_run(run, device_file):
    """The run, to which the device's file was added."""
    add_device_latencies(run.path, [device_file], [record.candidate for record in run.load()])
    return run


def test_a_device_is_reported_and_chosen_by(command, run, device_file, tmp_path):
    page = tmp_path / "report"
    options = ("--latency-seconds", "0", "--output", page)
    assert command("report", run.path, "--latency", device_file, *options)[0] == 0
    text = (page / "report.html").read_text()
    assert "Median milliseconds on raspberry (4 threads of armv8, ONNX Runtime 1.20.0, float32)" in text

    chosen = tmp_path / "chosen.yaml"
    limits = ("--max-latency", "2", "--device", "raspberry", "--prefer", "accuracy", "--output", chosen)
    code, out, _ = command("select", run.path, *limits)
    assert code == 0
    assert "Latency: 2 ms for 1 image on raspberry (4 threads of armv8, ONNX Runtime 1.20.0, float32), measured" in out
    assert "90.00 %" in next(line for line in out.splitlines() if line.startswith("->"))

    code, out, _ = command("latency", run.path, "--device", "raspberry")
    assert code == 0
    assert "A model of 4 networks; if each is predicted from the others" in out
    assert "latency_model: {network: " in out


def test_networks_that_were_measured_beside_the_front_count(command, device_run, monkeypatch):
    front = open_run(device_run.path).front[:2]
    monkeypatch.setattr("mgnas.run.Run.front", front)
    code, out, _ = command("latency", device_run.path, "--device", "raspberry")
    assert (code, "A model of 4 networks" in out) == (0, True)


def test_the_printed_limits_are_those_of_a_search(command, device_run, tmp_path):
    _, out, _ = command("latency", device_run.path, "--device", "raspberry")
    search = yaml.safe_load((device_run.path / "config.yaml").read_text())
    search["space"] |= yaml.safe_load(out[out.index("  limits:") :])
    assert search["space"]["limits"]["max_latency"] == 4
    search["space"]["limits"]["max_latency"] = 2.5
    (tmp_path / "next.yaml").write_text(yaml.safe_dump(search))
    slow = [record.candidate for record in device_run.load() if record.number in (4, 6)]  # 32 and 28 channels.
    space = SearchConfig.load(tmp_path / "next.yaml").search_space()
    assert not {candidate.id for candidate in slow} & {candidate.id for candidate in space.enumerate()}


def test_networks_are_measured_here_and_remembered(command, run, remember_latencies):
    remember_latencies(run, except_for=(0, 1, 2, 5, 6))
    code, out, _ = command("latency", run.path)
    assert code == 0
    assert out.startswith("On one thread of ")
    assert "ONNX Runtime" in out.splitlines()[0]
    remembered = json.loads((run.path / "latency.json").read_text())["milliseconds"]
    assert len(remembered) == 4
    first = LatencyMeter(run.path / "latency.json").latencies(run.load()[0].candidate)
    assert list(first.values()) == remembered[network_key(run.load()[0].candidate)]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--device", "raspberry"], ["--device raspberry", "has no latencies of this device", "--kit FOLDER"]),
        (["--kit", "kit", "--device", "x"], ["give one of --kit and --device"]),
    ],
)
def test_impossible_questions(command, run, options, parts, refused):
    refused(command("latency", run.path, *options), *parts)


def test_a_choice_needs_latencies_of_its_device(command, run, tmp_path, refused):
    limits = ("--max-latency", "5", "--device", "phone", "--output", tmp_path / "x.yaml")
    refused(command("select", run.path, *limits), "--device phone", "has no latencies of this device")


def test_a_limit_below_the_fastest_network_says_what_there_is(command, device_run, tmp_path, refused):
    limits = ("--max-latency", "0.5", "--device", "raspberry", "--output", tmp_path / "x.yaml")
    result = command("select", device_run.path, *limits)
    refused(result, "--max-latency: no network keeps 0.5 ms", "keep the other limits is")


def test_latencies_belong_to_one_run(command, run, device_file, tmp_path, refused):
    other = shutil.copytree(run.path, tmp_path / "other")
    refused(command("report", run.path, other, "--latency", device_file), "--latency: belongs to one run")
    assert not (tmp_path / "comparison").exists()
