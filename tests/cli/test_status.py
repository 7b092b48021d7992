"""mgnas status: where a search stands."""

import json
import re

from mgnas.reports.deploy.training_progress import TrainingProgress, write_progress
from mgnas.search.data.dataset import Dataset
from mgnas.search.trial_record import TrialState


def test_counts_failures_and_the_front_are_shown(command, run):
    code, out, _ = command("status", run.path)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "5 of 8 trials complete, 1 running, 0 paused, 1 failed, 1:15 searched"
    assert lines[1] == "Pareto front: 4 networks"
    accuracies = [re.search(r"(\d+\.\d\d) %  trial (\d)", line).groups() for line in lines[2:6]]
    assert accuracies == [("80.00", "0"), ("90.00", "2"), ("95.00", "3"), ("96.00", "4")]
    assert lines[6] == "trial 5 failed: <b>& loss became nan"
    assert lines[7] == f"Nothing is searching there now; continue with: mgnas resume {run.path}"


def test_full_trainings_say_how_far_they_are(command, run):
    folder = run.path / "retrained" / "network" / "seed-1"
    folder.mkdir(parents=True)
    (folder.parent / "choice.json").write_text('{"trial": 2, "validation_accuracy": 0.9}')
    write_progress(folder, TrainingProgress(epoch=12, epochs=90, seconds=840.0))
    _, out, _ = command("status", run.path)
    assert "Retraining: trial 2, seed 1: epoch 12/90, about 1:31:00 left" in out.splitlines()


def test_who_is_searching_is_named(command, run):
    with run.lock:
        _, out, _ = command("status", run.path)
    assert re.match(r"Searching there now: process \d+ on ", out.splitlines()[-1])


def test_a_reason_and_a_host_cannot_write_on_the_terminal(command, run):
    (record,) = (record for record in run.load() if record.state is TrialState.RUNNING)
    record.state, record.reason = TrialState.FAILED, "\x1b[2Jgone\nmgnas: all is well"
    run.record_end(record)
    with run.lock:
        holder = json.loads((run.path / "driver.json").read_text())
        (run.path / "driver.json").write_text(json.dumps(holder | {"host": "node\x1b]0;x\x07"}))
        _, out, _ = command("status", run.path)
    assert "trial 6 failed: \\x1b[2Jgone\\nmgnas: all is well\n" in out
    assert out.endswith(" on node\\x1b]0;x\\x07\n")
    assert "\x1b" not in out


def test_the_name_of_a_folder_cannot_either(command, tmp_path, refused):
    assert "\\x1b[31mred: no such run directory" in refused(command("status", tmp_path / "\x1b[31mred"))


def test_the_share_of_the_largest_class_is_shown_to_compare_with(command, run, numbered):
    images = numbered([99, 1])
    run.check_data(Dataset(images, images, None, ("cat\x1b[2J", "dog")))
    _, out, _ = command("status", run.path)
    assert "Largest class: cat\\x1b[2J, 99.00 % of the validation images" in out.splitlines()


def test_what_more_trials_are_expected_to_bring_is_shown(command, lucky_run):
    _, out, _ = command("status", lucky_run.path)
    assert out.splitlines()[1] == "20 more trials: about +0.2 % expected"
