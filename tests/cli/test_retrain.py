"""mgnas retrain: one line for what cannot be done. Trainings are in tests/reports/deploy/test_retraining.py."""

import json

import pytest

from mgnas.api import open_run


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ([], "give one of --front, --select with its limits, --trial NUMBER and --doubtful COUNT"),
        (["--front", "--select"], "give one of --front"),
        (["--front", "--max-weights", "20k"], "--max-weights: chooses for --select; give that, too"),
        (["--front", "--doubtful", "2"], "give one of --front"),
        (["--doubtful", "0"], "'--doubtful'"),
        (["--doubtful", "2"], "doubtful: how noisy accuracies are is learned from at least 8 complete trials"),
        (["--trial", "5"], "--trial 5: no complete trial of"),
        (["--trial", "99"], "--trial 99: no complete trial of"),
        (["--select", "--max-weights", "1"], "--max-weights: no network has at most 1 weights"),
        (["--front", "--seeds", "0"], "'--seeds'"),
        (["--front", "--gpus-per-trial", "1.5"], "resources.gpus_per_trial: 1.5 is neither"),
        (["--front", "--execution", "fast"], "'--execution'"),
    ],
)
def test_impossible_retrainings(command, run, options, part, refused):
    refused(command("retrain", run.path, *options), part)
    assert not (run.path / "retrained").exists()


def test_other_images_than_those_of_the_search_are_refused(command, run, refused):
    metadata = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(metadata | {"images": "of other images"}))
    refused(command("retrain", run.path, "--front"), "data.path: the images are not those that this run's trials")
    assert not (run.path / "retrained").exists()


def test_doubtful_networks_are_named_and_trained(command, lucky_run, monkeypatch):
    trained = []
    monkeypatch.setattr("mgnas.run.Run.retrain", lambda run, trials, **options: trained.extend(trials) or [])
    monkeypatch.setattr("mgnas.run.Run.report", lambda run: "report")
    code, out, _ = command("retrain", lucky_run.path, "--doubtful", "2")
    assert code == 0
    confidence = open_run(lucky_run.path).front_confidence()
    assert [trial.number for trial in trained] == [trial.number for trial in open_run(lucky_run.path).doubtful(2)]
    for line, trial in zip(out.splitlines(), trained, strict=False):
        part = 100 * confidence.expected[trial.number].on_front
        assert line.startswith(f"trial {trial.number}: {trial.weights:,} weights, ")
        assert line.endswith(f" %, on the front with {part:.0f} %")


def test_nothing_is_trained_if_the_front_is_sure(command, lucky_run, monkeypatch):
    monkeypatch.setattr("mgnas.reports.analysis.front_confidence._LEAST_INFORMATION", 99.0)
    code, out, _ = command("retrain", lucky_run.path, "--doubtful", "2")
    assert (code, out.startswith("Nothing to train")) == (0, True)
