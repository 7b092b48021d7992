"""mgnas latency: the front's networks here, kits for other devices, and what came back."""

import json
import re
import shutil

import pytest
import yaml

from mgnas.api import open_run
from mgnas.reports.deploy.latency.device import add_device_latencies
from mgnas.reports.deploy.latency.meter import LatencyMeter
from mgnas.reports.deploy.latency.untrained import network_key
from mgnas.search.config import SearchConfig


@pytest.fixture
def device_file(run, tmp_path):
    """As if a raspberry needed 1 ms for the smallest network of the front, 2 for the next, and so on."""
    networks = {}
    for index, number in enumerate((0, 2, 3, 4), start=1):
        times = {"1": 3 * [index], "32": 3 * [32 * index]}
        halves = {"1": 3 * [index / 2], "32": 3 * [16 * index]}
        networks[network_key(run.load()[number].candidate)] = {"float32": times, "int8": halves}
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


@pytest.fixture
def quantised_trials(device_run):
    """Trials 0 and 3 of the run, retrained and quantised; the heavier one is better and, in int8, takes 1.5 ms."""
    for number, accuracy in ((0, 0.8), (3, 0.95)):
        folder = device_run.path / "retrained" / device_run.load()[number].candidate.id
        (folder / "seed-0").mkdir(parents=True)
        (folder / "seed-0" / "result.json").write_text(json.dumps({"test_accuracy": accuracy}))
        size = 10_000 * (1 + number)
        facts = {"accuracy": accuracy, "float_accuracy": accuracy, "size": size, "float_size": 3 * size, "kept": True}
        (folder / "seed-0" / "exports.json").write_text(json.dumps({"int8": facts}))
        (folder / "choice.json").write_text(json.dumps({"trial": number, "validation_accuracy": accuracy}))


@pytest.mark.usefixtures("quantised_trials")
def test_int8_networks_are_chosen_by_their_own_latencies(command, device_run, refused, tmp_path):
    def choose(*limits):
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        return command("select", device_run.path, "--int8", "--prefer", "accuracy", "--output", output, *limits)

    _, out, _ = choose("--device", "raspberry", "--max-latency", "1.5")
    assert "95.00 %" in next(line for line in out.splitlines() if line.startswith("->"))
    assert "Latency: 1.5 ms for 1 image on raspberry (4 threads of armv8, ONNX Runtime 1.20.0, int8), measured" in out
    _, out, _ = choose("--device", "raspberry", "--max-latency-32", "47.9")
    assert "80.00 %" in next(line for line in out.splitlines() if line.startswith("->"))
    line = "--max-latency: no int8 network has at most 0.1 ms; the least is 0.5"
    refused(choose("--device", "raspberry", "--max-latency", "0.1"), line)
    # Without a device they are measured here.
    _, out, _ = choose("--max-latency", "1e6")
    line = re.search(r"^Latency: (.*) ms for 1 image on one thread of .*, ONNX Runtime .*, int8$", out, re.MULTILINE)
    assert line is not None
    # They are kept in the run, so the time that is printed is the one that was compared with the limit.
    kept = open_run(device_run.path).latency_meter().int8_latencies(device_run.load()[3].candidate)
    assert f"{kept[1]:.4g}" == line[1]


@pytest.mark.usefixtures("quantised_trials")
def test_int8_networks_are_chosen_by_their_memory(device_run):
    light, heavy = (device_run.load()[number].candidate for number in (0, 3))
    limit = heavy.activation_memory(int8=True) - 1
    assert light.activation_memory(int8=True) <= limit
    run = open_run(device_run.path)
    assert run.select_int8(max_memory_int8=limit, prefer="accuracy").network.trial.number == 0
    assert run.select_int8(max_memory_int8=limit + 1, prefer="accuracy").network.trial.number == 3


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
