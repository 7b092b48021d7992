import json
import statistics

import pytest

from mgnas.errors import UserError
from mgnas.files import write_yaml
from mgnas.reports.deploy.classifier import load_model
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
from mgnas.reports.deploy.retraining import Retrained, Unfinished, load_retrained, load_unfinished, retrain
from mgnas.reports.deploy.training_progress import TrainingProgress, write_progress
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import completed_trials


def of(run, label):
    return next(t for t in completed_trials(run.load()) if t.candidate.params["base_channels"] == label)


def test_retraining_through_ray_continues_and_never_repeats(run):
    small, large = of(run, "4"), of(run, "8")
    folder = run.path / "retrained" / large.candidate.id
    # Another training has begun where seed 1 of the larger one belongs: it fails, the others do not.
    (folder / "seed-1").mkdir(parents=True)
    write_yaml(folder / "seed-1" / "task.yaml", {"another": "training"})
    begun = TrainingProgress(epoch=2, epochs=5, seconds=3.0)
    write_progress(folder / "seed-1", begun)
    outcomes, epochs = [], []
    found = retrain(run, [small, large], 2, on_end=outcomes.append, on_epoch=epochs.append)
    left = Unfinished(large.number, 1, begun)
    assert epochs.count(left) == 1
    assert {(e.trial, e.seed) for e in epochs} <= {
        (small.number, 0),
        (small.number, 1),
        (large.number, 0),
        (large.number, 1),
    }
    assert load_unfinished(run) == [left], "the others have ended"
    assert len(outcomes) == 4
    failed = [outcome for outcome in outcomes if outcome.accuracy is None]
    assert [(o.record.number, o.seed) for o in failed] == [(large.number, 1)]
    assert "another, unfinished training" in failed[0].reason
    assert [(r.trial, len(r.accuracies)) for r in found] == [(small.number, 2), (large.number, 1)]
    first = found[0]
    results = [json.loads((first.folder / f"seed-{seed}" / "result.json").read_text()) for seed in (0, 1)]
    assert first.accuracies == tuple(result["test_accuracy"] for result in results)
    assert [result["seed"] for result in results] == [0, 1]
    assert [result["training_images"] for result in results] == [1437, 1437]
    assert results[0]["training"]["batch_size"] == 256
    assert first.estimate == 0.80
    assert "over 2 seeds" in (first.folder / "seed-0" / "model_card.md").read_text()
    assert load_model(first.folder / "seed-0").config == small.candidate.architecture

    # What is finished stays as it is; what failed is tried again, without Ray where nothing is left to do.
    before = (first.folder / "seed-0" / "model.pt").stat().st_mtime_ns
    again = []
    retrain(run, [small], 2, on_end=again.append)
    assert [outcome.finished_before for outcome in again] == [True, True]
    assert (first.folder / "seed-0" / "model.pt").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"seed-0: was trained with another training section; move it away"):
        retrain(run, [small], 2, epochs=7)


def test_unfinished_trainings_are_those_that_have_an_epoch_and_no_result(run):
    progress = TrainingProgress(epoch=1, epochs=3, seconds=1.0)
    for network, trial in (("a", 7), ("b", 2)):
        folder = run.path / "retrained" / network
        for seed in (0, 1, 10, 2):
            (folder / f"seed-{seed}").mkdir(parents=True)
        (folder / "choice.json").write_text(json.dumps({"trial": trial, "validation_accuracy": 0.8}))
        write_progress(folder / "seed-10", progress)
        write_progress(folder / "seed-2", progress)
        write_progress(folder / "seed-0", progress)  # of a process that was killed after the result
        (folder / "seed-0" / "result.json").write_text('{"test_accuracy": 0.9}')
    expected = [Unfinished(trial, seed, progress) for trial in (2, 7) for seed in (2, 10)]
    assert load_unfinished(run) == expected
    assert expected[0].in_words() == "trial 2, seed 2: epoch 1/3, about 0:02 left"
    (folder / "choice.json").write_text("{}")
    with pytest.raises(UserError, match=r"choice\.json: is damaged"):
        load_unfinished(run)


def test_mean_standard_deviation_and_shift(tmp_path):
    retrained = Retrained(3, 0.95, "test", (0.90, 0.92, 0.97), tmp_path)
    assert retrained.mean == pytest.approx(0.93)
    assert retrained.std == pytest.approx(statistics.stdev([0.90, 0.92, 0.97]))
    assert retrained.shift == pytest.approx(-0.02)
    words = "test accuracy 93.00 % +- 3.61 over 3 seeds, -2.00 points against the search's 95.00 %"
    assert retrained.in_words() == words
    single = Retrained(3, 0.95, "test", (0.96,), tmp_path)
    assert single.std is None
    assert single.in_words() == "test accuracy 96.00 % over 1 seed, +1.00 points against the search's 95.00 %"


def test_unfinished_trainings_do_not_count_and_damage_is_one_line(run):
    folder = run.path / "retrained" / "some-network"
    (folder / "seed-0").mkdir(parents=True)
    (folder / "choice.json").write_text('{"trial": 0, "validation_accuracy": 0.8}')
    assert load_retrained(run) == []
    (folder / "seed-0" / "result.json").write_text('{"test_accuracy": 0.9}')
    assert load_retrained(run)[0].accuracies == (0.9,)
    (folder / "choice.json").write_text("{}")
    with pytest.raises(UserError, match=r"choice\.json: is damaged"):
        load_retrained(run)


def test_other_images_than_those_of_the_search_are_refused_before_anything_is_written(run, refusal):
    metadata = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(metadata | {"images": "of other images"}))
    message = refusal(lambda: retrain(RunDirectory(run.path), [of(run, "4")], 1))
    assert "data.path: the images are not those that this run's trials learned from, or their classes" in message
    assert not (run.path / "retrained").exists()


def test_a_finished_training_stays_finished_when_images_have_moved(run, tmp_path):
    """The path of the images is no part of what a training is."""
    trial = of(run, "4")
    task = FinalTraining(trial.architecture, run.config.final_training, run.config.data)
    folder = run.path / "retrained" / trial.candidate.id / "seed-0"
    train_fully(task, folder, "cpu")
    result = json.loads((folder / "result.json").read_text())
    result["data"]["path"] = "../elsewhere"
    (folder / "result.json").write_text(json.dumps(result))
    outcomes = []
    retrain(run, [trial], 1, on_end=outcomes.append)
    assert [outcome.finished_before for outcome in outcomes] == [True]


@pytest.mark.parametrize("linked", ["", "seed-0"])
def test_links_to_folders_outside_are_refused_and_nothing_is_written_there(
    run, retrained_trial, tmp_path, refusal, linked
):
    own = run.path / "retrained" / retrained_trial.candidate.id / linked
    outside = own.rename(tmp_path / "outside")
    own.symlink_to(outside)
    before = {file: file.read_bytes() for file in outside.rglob("*.*")}
    for call in (lambda: retrain(run, [retrained_trial], 2), lambda: load_retrained(run)):
        assert f"{own}: is a link, which may lead out of the run".replace("//", "/") in refusal(call)
    assert {file: file.read_bytes() for file in outside.rglob("*.*")} == before


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"test_accuracy": null}', '{"test_accuracy": NaN}', '{"test_accuracy": 91}']
)
def test_a_damaged_result_names_its_file(run, retrained_trial, refusal, content):
    file = run.path / "retrained" / retrained_trial.candidate.id / "seed-1" / "result.json"
    file.write_text(content)
    assert refusal(lambda: load_retrained(run)).startswith(f"{file}: is damaged; ")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"trial": Infinity, "validation_accuracy": 1}', '{"trial": "x"}'])
def test_a_damaged_choice_names_its_file(run, retrained_trial, refusal, content):
    file = run.path / "retrained" / retrained_trial.candidate.id / "choice.json"
    file.write_text(content)
    assert refusal(lambda: load_retrained(run)).startswith(f"{file}: is damaged; delete it")
