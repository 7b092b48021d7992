"""select, retrain, export and report: what they print, and one line for what cannot be done."""

import json

import pytest
import yaml


def complaint(result):
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


def test_select_says_why_and_what_the_neighbours_cost(command, run, tmp_path):
    output = tmp_path / "chosen.yaml"
    code, out, _ = command("select", run.path, "--max-macs", "10M", "--max-latency", "1000", "--output", output)
    assert code == 0
    lines = out.splitlines()
    assert [line[:2] for line in lines[:3]] == ["  ", "->", "  "]
    assert lines[3].startswith("Chosen for knee: of the 5 trials that keep the limits")
    assert lines[4].startswith("The next lighter one, trial 0: -")
    assert lines[4].endswith("-10.00 points of accuracy")
    assert lines[5].startswith("The next heavier one, trial 3: +")
    assert yaml.safe_load(output.read_text())["origin"]["trial"] == 2
    # Latencies are kept in the run, so that asking again gives the same answer.
    assert len(json.loads((run.path / "latency.json").read_text())["milliseconds"]) >= 1


def test_select_tells_of_full_trainings(command, run, tmp_path):
    record = run.load()[2]
    folder = run.path / "retrained" / record.candidate.id
    (folder / "seed-0").mkdir(parents=True)
    (folder / "seed-0" / "result.json").write_text('{"test_accuracy": 0.93}')
    (folder / "choice.json").write_text(json.dumps({"trial": 2, "validation_accuracy": 0.9}))
    _, out, _ = command("select", run.path, "--output", tmp_path / "chosen.yaml")
    assert "Retrained: test accuracy 93.00 % over 1 seed, +3.00 points" in out


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--max-macs", "10"], "--max-macs: no network has at most 10 MACs; the least is"),
        (["--max-size", "10"], "--max-size: no network keeps 10 bytes; the least of those"),
        (["--max-latency", "0.000001"], "--max-latency: no network keeps 1e-06 ms"),
        (["--max-latency", "0"], "'--max-latency'"),
        (["--prefer", "expected"], "--prefer expected: how noisy accuracies are is learned from at least 8"),
        (["--prefer", "luck"], "'--prefer'"),
    ],
)
def test_impossible_selections(command, run, tmp_path, options, part):
    output = tmp_path / "chosen.yaml"
    assert part in complaint(command("select", run.path, *options, "--output", output))
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ([], "give one of --front, --select with its limits, and --trial NUMBER"),
        (["--front", "--select"], "give one of --front"),
        (["--front", "--max-weights", "20k"], "--max-weights: chooses for --select; give that, too"),
        (["--trial", "5"], "--trial 5: no complete trial of"),
        (["--trial", "99"], "--trial 99: no complete trial of"),
        (["--select", "--max-weights", "1"], "--max-weights: no network has at most 1 weights"),
        (["--front", "--seeds", "0"], "'--seeds'"),
    ],
)
def test_impossible_retrainings(command, run, options, part):
    assert part in complaint(command("retrain", run.path, *options))
    assert not (run.path / "retrained").exists()


def test_impossible_exports(command, tmp_path):
    assert "none/model.pt: no such model" in complaint(command("export", tmp_path / "none"))
    assert "'--to'" in complaint(command("export", tmp_path, "--to", "tflite"))
    assert "--int8: quantises an ONNX network" in complaint(
        command("export", tmp_path, "--to", "safetensors", "--int8")
    )


def test_report_of_the_same_run_twice_is_that_of_one(command, run, tmp_path):
    code, _, _ = command("report", run.path, f"{run.path}/", "--output", tmp_path / "r", "--latency-seconds", "0")
    assert code == 0
    assert (tmp_path / "r" / "curves.svg").exists()
    assert not (tmp_path / "r" / "latency.svg").exists()
    assert complaint(command("report", run.path, tmp_path / "none")).startswith("mgnas: error: ")
