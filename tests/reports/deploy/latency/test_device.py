"""Results of kits: which are kept, what they predict, and what is refused."""

import json

import pytest

from mgnas.errors import UserError
from mgnas.reports.deploy.latency.device import add_device_latencies, device_latencies, load_device_latencies
from mgnas.reports.deploy.latency.untrained import network_key
from mgnas.space.latency import LatencyModel

TRUTH = LatencyModel(network=0.1, calls=0.01, dense=0.5)


def content(candidates, device="raspberry"):
    """As if these networks had been measured on a device that follows the model exactly."""
    networks = {}
    for candidate in candidates:
        time = TRUTH.milliseconds(candidate.cost)
        single, many = [time, time, 2 * time], [32 * time, 33 * time, 34 * time]
        int8 = {"1": [value / 2 for value in single], "32": [value / 2 for value in many]}
        networks[network_key(candidate)] = {"float32": {"1": single, "32": many}, "int8": int8}
    machine = {"threads": 1, "processor": "armv8", "onnxruntime": "1.20.0"}
    return {"format": 1, "device": device, **machine, "networks": networks}


@pytest.fixture
def candidates(run):
    return [record.candidate for record in run.load()]


@pytest.fixture
def add(run, candidates, tmp_path):
    """Adds contents to the run, each from a file of its own."""

    def add(*contents):
        files = [tmp_path / f"{index}.json" for index in range(len(contents))]
        for file, one in zip(files, contents, strict=True):
            file.write_text(one if isinstance(one, str) else json.dumps(one))
        add_device_latencies(run.path, files, candidates)

    return add


def test_networks_that_were_not_measured_are_predicted(run, candidates, add):
    add(content(candidates[:5]))
    device = device_latencies(run.path, "raspberry", candidates)
    assert device.latencies(candidates[0])[32] == 33 * TRUTH.milliseconds(candidates[0].cost)
    assert device.latencies(candidates[6])[1] == pytest.approx(TRUTH.milliseconds(candidates[6].cost), rel=1e-6)
    assert device.int8_latencies(candidates[6])[32] == pytest.approx(
        33 / 2 * TRUTH.milliseconds(candidates[6].cost), rel=1e-6
    )
    assert device.fitted().error == pytest.approx(0, abs=1e-6)
    assert "predicted from 5 networks with a median error of 0 %" in device.in_words(candidates[6])


def test_without_int8_measurements_nothing_is_said_of_int8(run, candidates, add, refusal):
    float_only = content(candidates[:5])
    for network in float_only["networks"].values():
        del network["int8"]
    add(float_only)
    device = device_latencies(run.path, "raspberry", candidates)
    line = refusal(lambda: device.int8_latencies(candidates[0]))
    assert line.startswith("device raspberry: 0 networks measured in int8 are too few to predict others; a new kit")
    assert device.latencies(candidates[0])


def test_several_devices_stand_side_by_side_and_a_new_measurement_replaces_the_old(run, candidates, add):
    add(content(candidates[:1]), content(candidates[:2], "phone"))
    assert [device.name for device in load_device_latencies(run.path, candidates)] == ["phone", "raspberry"]
    add(content(candidates[:3]))
    assert device_latencies(run.path, "raspberry", candidates).quartiles(candidates[2])


def test_a_run_without_devices_says_where_they_come_from(run, candidates, add, refusal):
    assert load_device_latencies(run.path, candidates) == []
    assert "`mgnas latency" in refusal(lambda: device_latencies(run.path, "raspberry", candidates))
    add(content(candidates))
    assert refusal(lambda: device_latencies(run.path, "phone", candidates)).endswith("it has raspberry")


def test_two_files_of_one_device_are_refused_and_neither_is_kept(run, candidates, add, refusal):
    line = refusal(lambda: add(content(candidates[:1]), content(candidates[:2])))
    assert "1.json: device raspberry is that of " in line
    assert load_device_latencies(run.path, candidates) == []


def changed(candidates, **changes):
    return content(candidates) | changes


def with_times(candidates, times):
    return json.dumps(content(candidates[:1])).replace(json.dumps(_times(candidates[0])), times)


def _times(candidate):
    return content([candidate])["networks"][network_key(candidate)]["float32"]["1"]


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda c: json.dumps(content(c))[:-40], "is cut off or no JSON"),
        (lambda c: "[]", "was not written by measure.py"),
        (lambda c: {"machine": "", "milliseconds": {}}, "was not written by measure.py"),
        (lambda c: changed(c, format=2), "has format 2, and this version of mgnas reads 1; write a new kit"),
        (lambda c: changed(c, device="../x"), "device: expected letters"),
        (lambda c: changed(c, device=None), "device: expected letters"),
        (lambda c: changed(c, threads="1"), "threads, processor or onnxruntime is missing"),
        (lambda c: changed(c, networks={"some other 32": content(c)["networks"][network_key(c[0])]}), "another run"),
        (lambda c: changed(c, networks={}), "has no network of "),
        (lambda c: changed(c, networks={"x": 5}), "'x': expected float32"),
        (lambda c: changed(c, networks={"x": {"float32": {"1": [1, 1, 1]}}}), "expected the batches 1 and 32"),
        (lambda c: with_times(c, "[NaN, NaN, NaN]"), "three ascending numbers of milliseconds, got"),
        (lambda c: with_times(c, "[1, 1, Infinity]"), "three ascending"),
        (lambda c: with_times(c, "[0, 1, 1]"), "three ascending"),
        (lambda c: with_times(c, "[2, 1, 3]"), "three ascending"),
        (lambda c: with_times(c, "[true, 1, 3]"), "three ascending"),
    ],
)
def test_files_that_are_no_result_of_this_run_are_one_line(run, candidates, add, refusal, make, part):
    line = refusal(lambda: add(make(candidates)))
    assert "0.json: " in line
    assert part in line
    assert load_device_latencies(run.path, candidates) == []


def test_a_missing_file_says_what_writes_it(run, candidates, tmp_path):
    with pytest.raises(UserError, match=r"none\.json: no such file; measure\.py of a kit writes it"):
        add_device_latencies(run.path, [tmp_path / "none.json"], candidates)
