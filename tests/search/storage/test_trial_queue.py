"""Trials that other programs put into the study: enqueued ones wait to be run, all others are ignored."""

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from mgnas.search.storage.sqlite_trial_store import SqliteTrialStore


@pytest.fixture
def study(store):
    """The study as another program opens it."""
    return optuna.load_study(study_name="mgnas", storage=f"sqlite:///{store.path}")


def test_what_other_programs_enqueue_waits_in_order(store, study):
    study.enqueue_trial({"width": "4"})
    study.enqueue_trial({"depth": 2}, user_attrs={"memo": "mine", "seed": 3})
    assert [trial.params for trial in store.queue.waiting()] == [{"width": "4"}, {"depth": 2}]
    assert store.load() == []


def test_what_mgnas_enqueues_is_optunas_queue(store, study):
    store.queue.add({"base_channels": [4, 8], "smoothing_steps": 2})
    (trial,) = study.get_trials()
    assert trial.state is OptunaState.WAITING
    assert trial.system_attrs["fixed_params"] == {"base_channels": [4, 8], "smoothing_steps": 2}


def test_a_removed_trial_is_not_handed_out_again_and_tells_why(store, study):
    study.enqueue_trial({"width": "4"})
    (queued,) = store.queue.waiting()
    store.queue.remove(queued, "runs as trial 0")
    assert store.queue.waiting() == []
    (trial,) = study.get_trials()
    assert (trial.state, trial.user_attrs) == (OptunaState.FAIL, {"mgnas": "runs as trial 0"})
    assert store.load() == []


def test_paused_trials_of_mgnas_wait_too_but_are_not_enqueued(store, some_records, write_trial):
    write_trial(store, some_records[0])
    record = some_records[1]
    write_trial(store, record)
    store.pause(record)
    assert store.queue.waiting() == []


FOREIGN = {
    "asked": lambda study: study.ask(),
    "told": lambda study: study.tell(study.ask(), [0.5, 10.0]),
    "failed": lambda study: study.tell(study.ask(), state=OptunaState.FAIL),
    "with parameters": lambda study: study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}),
    "added": lambda study: study.add_trial(optuna.trial.create_trial(values=[0.9, 1.0])),
    "with a seed of its own": lambda study: study.add_trial(
        optuna.trial.create_trial(values=[0.9, 1.0], user_attrs={"seed": 1})
    ),
    "enqueued": lambda study: study.enqueue_trial({"x": 1}),
}


@pytest.mark.parametrize("add", FOREIGN.values(), ids=FOREIGN.keys())
def test_trials_of_other_programs_between_ours_change_nothing(
    store, study, small_space, some_records, write_trial, read_trials, add
):
    add(study)
    for record in some_records[:3]:
        write_trial(store, record)
        add(study)
    assert store.load() == some_records[:3]
    store.close()
    again = SqliteTrialStore(store.path, small_space)
    running = again.load()[1]
    running.curve.append(0.5)
    again.start(running)
    again.epoch(running)
    write_trial(again, some_records[3])
    again.close()
    assert read_trials(store.path, small_space) == [some_records[0], running, *some_records[2:4]]


def test_ignored_trials_are_named_once(store, study, small_space, caplog):
    study.add_trial(optuna.trial.create_trial(values=[0.9, 1.0]))
    study.ask()
    study.enqueue_trial({"x": 1})
    reader = SqliteTrialStore(store.path, small_space)
    assert reader.load() == reader.load() == []
    reader.close()
    assert caplog.text.count("2 trials of other programs are ignored (0, 1)") == 1
