"""What is stored comes back, plain Optuna can read it, and trials of another search space are refused."""

import sqlite3
import time

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState

from mgnas.search.samplers.factory import make_sampler
from mgnas.search.storage.sqlite_trial_store import SqliteTrialStore
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import TrialRecord, TrialState

RUNNING, COMPLETE, FAILED = TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAILED


def test_a_new_study_is_empty(store):
    assert store.load() == []


def test_records_come_back_from_the_open_and_from_the_reopened_study(
    store, small_space, some_records, write_trial, read_trials
):
    for record in some_records:
        write_trial(store, record)
    assert store.load() == some_records
    store.close()
    assert read_trials(store.path, small_space) == some_records


def test_what_another_process_stores_is_seen_by_a_study_that_was_read_before(
    store, small_space, some_records, write_trial
):
    reader = SqliteTrialStore(store.path, small_space)
    for number, record in enumerate(some_records):
        assert reader.load() == some_records[:number]
        write_trial(store, record)
    first, second = reader.load(), reader.load()
    assert first == second == some_records
    first[0].curve.append(0.0)
    first[0].sampler_notes["note"] = 1
    assert second == reader.load() == some_records, "records are the reader's own"
    reader.close()


_fractions = st.floats(0, 1)
_endings = st.fixed_dictionaries({"seconds": st.floats(0, 1e6), "finished": st.floats(0, 1e6)})
_trials = st.one_of(
    st.tuples(st.just(RUNNING), st.lists(_fractions, max_size=2), st.just({})),
    st.tuples(st.just(COMPLETE), st.lists(_fractions, min_size=2, max_size=2), _endings),
    st.tuples(
        st.just(FAILED),
        st.lists(_fractions, max_size=2),
        st.tuples(_endings, st.text(st.characters(codec="utf-8"), max_size=300)).map(
            lambda parts: parts[0] | {"reason": parts[1]}
        ),
    ),
)


@pytest.fixture(scope="session")
def endless_study(new_path):
    """A study that all examples of a property test add to, for making one takes half a second."""
    path = new_path("study.db")
    SqliteTrialStore.create(path)
    return path


@settings(max_examples=10)
@given(st.lists(_trials, min_size=1, max_size=4))
def test_any_records_come_back_exactly(endless_study, small_space, records_of, write_trial, read_trials, trials):
    store = SqliteTrialStore(endless_study, small_space)
    before, records = store.load(), records_of(*trials)
    for record in records:
        record.number += len(before)
        write_trial(store, record)
    store.close()
    assert read_trials(endless_study, small_space) == before + records


def test_a_reopened_study_goes_on(store, small_space, some_records, write_trial):
    write_trial(store, some_records[0])
    write_trial(store, some_records[1])
    store.close()
    again = SqliteTrialStore(store.path, small_space)
    running = again.load()[1]
    again.start(running)  # it is stored already
    running.curve.append(0.75)
    again.epoch(running)
    running.state, running.seconds, running.finished = COMPLETE, 8.0, 12.0
    again.end(running)
    write_trial(again, some_records[2])
    assert again.load() == [some_records[0], running, some_records[2]]
    again.close()


def test_what_is_stored_already_is_not_written_again(store, some_records):
    record = some_records[1]
    watcher = sqlite3.connect(store.path)

    def writes(change) -> bool:
        """The version changes whenever another connection has written."""
        before = watcher.execute("pragma data_version").fetchone()
        change(record)
        return watcher.execute("pragma data_version").fetchone() != before

    assert writes(store.start)
    assert not writes(store.start)
    assert writes(store.epoch)
    assert not writes(store.epoch)
    record.curve.append(0.5)
    assert writes(store.epoch)
    assert not writes(store.epoch)
    watcher.close()
    assert store.load()[0].curve == [0.25, 0.5]


@pytest.mark.parametrize(
    ("curves", "state"),
    [([[0.3], [0.3, 0.4]], COMPLETE), ([[0.3]], FAILED), ([[0.1], [0.1, 0.2], [0.1, 0.2, 0.3]], COMPLETE)],
)
def test_a_curve_that_begins_anew_replaces_the_stored_one(
    store, small_space, records_of, curves, state, write_trial, read_trials
):
    """A trial whose checkpoint was lost is trained from its first epoch; on a GPU the numbers may differ."""
    (record,) = records_of((RUNNING, [0.1, 0.2], {}))
    write_trial(store, record)
    for curve in curves:
        record.curve = curve
        store.epoch(record)
    record.state = state
    store.end(record)
    assert store.load() == [record]
    assert read_trials(store.path, small_space) == [record]


# --------------------------------------------------------------------------------------------------------- plain Optuna


def test_plain_optuna_reads_the_study_while_it_is_open(store, small_space, some_records, write_trial):
    for record in some_records:
        write_trial(store, record)
    loaded = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{store.path}")
    assert [direction.name for direction in loaded.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert loaded.metric_names == ["validation accuracy", "weights"]
    trials = loaded.get_trials()
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    assert [trial.state for trial in trials] == [
        OptunaState.COMPLETE,
        OptunaState.RUNNING,
        OptunaState.FAIL,
        OptunaState.RUNNING,
        OptunaState.COMPLETE,
    ]
    for record, trial in zip(some_records, trials, strict=True):
        assert trial.params == record.candidate.params
        assert trial.distributions == {p.name: p.distribution for p in small_space.parameters}
        assert trial.intermediate_values == dict(enumerate(record.curve, start=1))
        assert trial.values == ([record.accuracy, record.weights] if record.state is COMPLETE else None)
        assert trial.user_attrs["id"] == record.candidate.id
        assert trial.user_attrs["weights"] == record.weights
        assert trial.user_attrs["macs"] == record.candidate.macs
        assert trial.user_attrs["seed"] == record.seed
        assert trial.user_attrs["architecture"] == record.candidate.architecture.to_dict()
        assert trial.user_attrs["training"]["epochs"] == 2
    assert trials[2].user_attrs["reason"] == "the loss became nan in epoch 2"
    assert (trials[2].user_attrs["seconds"], trials[2].user_attrs["finished"]) == (1.25, 4.0)


def test_optuna_finds_the_front(store, small_space, write_trial):
    """Of three networks, the second is heavier and worse than the first."""
    light, middle, heavy = sorted(small_space.enumerate(), key=lambda candidate: candidate.weights)[::6]
    accuracies = ((middle, 0.5), (heavy, 0.4), (light, 0.3))
    for number, (candidate, value) in enumerate(accuracies):
        write_trial(store, TrialRecord(number, candidate, 0, COMPLETE, [0.0, value], finished=1.0))
    loaded = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{store.path}")
    assert sorted(trial.number for trial in loaded.best_trials) == [0, 2]


def test_trials_have_a_start_and_only_ended_ones_an_end(store, some_records, write_trial):
    before = time.time()
    for record in some_records:
        write_trial(store, record)
    loaded = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{store.path}")
    for record, trial in zip(some_records, loaded.get_trials(), strict=True):
        assert trial.datetime_start is not None
        assert before - 1 <= trial.datetime_start.timestamp() <= time.time()
        assert (trial.datetime_complete is None) == (record.state is RUNNING)


# ------------------------------------------------------------------------------------------- trials that do not fit

PARAMETERS = {
    "base_channels": [[4], [8], [4, 8]],
    "smoothing_steps": {"low": 1, "high": 3},
    "sharing": ["A", "AB"],
}


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"base_channels": [[4], [4, 8]]}, id="list of channels gone"),
        pytest.param({"sharing": ["none", "AB"]}, id="choice gone"),
        pytest.param({"smoothing_steps": {"low": 1, "high": 2}}, id="range narrower"),
        pytest.param({"smoothing_steps": [1, 2]}, id="range became choices"),
        pytest.param({"sharing": None}, id="parameter gone"),
        pytest.param({"resolution_transfer": ["depthwise", "dense"]}, id="parameter added"),
    ],
)
def test_trials_outside_a_changed_space_are_refused_by_number(
    tmp_path, make_space, refusal, changed, write_trial, read_trials
):
    fixed = {"family": "mgnet"}
    space = make_space(PARAMETERS, fixed=fixed)
    path = tmp_path / "study.db"
    SqliteTrialStore.create(path)
    store = SqliteTrialStore(path, space)
    fitting = {"base_channels": "4", "smoothing_steps": 1, "sharing": "AB"}
    outside = {"base_channels": "8", "smoothing_steps": 3, "sharing": "A"}
    for number, values in enumerate((fitting, outside)):
        write_trial(store, TrialRecord(number, space.candidate(values), 0, COMPLETE, [0.1, 0.2], finished=1.0))
    store.close()
    left = {name: value for name, value in (PARAMETERS | changed).items() if value is not None}
    other = make_space(left, fixed=fixed)

    def resume():
        Strategy(other, make_sampler("random", 0), n_trials=5, records=read_trials(path, other))

    # The first trial fits unless the parameters are others.
    number = 1 if left.keys() == PARAMETERS.keys() else 0
    assert refusal(resume).startswith(f"{path}: trial {number} does not fit the search space (")


def test_trials_over_a_new_limit_still_count(tmp_path, make_space, write_trial, read_trials):
    """They are trained, and a lower budget makes them no less known."""
    fixed = {"family": "mgnet"}
    space = make_space(PARAMETERS, fixed=fixed)
    record = TrialRecord(0, space.candidate({"base_channels": "4-8", "smoothing_steps": 3, "sharing": "A"}), 0)
    record.state, record.curve, record.finished = COMPLETE, [0.1, 0.2], 1.0
    path = tmp_path / "study.db"
    SqliteTrialStore.create(path)
    store = SqliteTrialStore(path, space)
    write_trial(store, record)
    store.close()
    tight = make_space(PARAMETERS, {"max_weights": record.weights - 1}, fixed)
    assert read_trials(path, tight) == [record]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seconds", '"long"'),
        ("seconds", "[1]"),
        ("finished", "{}"),
        ("balanced_accuracy", '"high"'),
        ("seed", "[]"),
        ("seed", "1e999"),
        ("decisions", "7"),
        ("epochs", '"two"'),
    ],
)
def test_a_trial_with_a_value_of_another_kind_is_refused_by_its_number(
    store, small_space, some_records, write_trial, refusal, key, value
):
    write_trial(store, some_records[0])
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("delete from trial_user_attributes where key = ?", (key,))
        connection.execute(
            "insert into trial_user_attributes (trial_id, key, value_json) values (1, ?, ?)", (key, value)
        )
    connection.close()
    message = refusal(lambda: SqliteTrialStore(store.path, small_space).load())
    assert message.startswith(f"{store.path}: trial 0 is damaged (")
