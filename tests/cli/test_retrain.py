"""mgnas retrain: one line for what cannot be done. Trainings are in tests/reports/deploy/test_retraining.py."""

import json

import pytest


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
