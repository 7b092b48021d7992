"""The study on disk: what is stored comes back, plain Optuna can read it, and nothing else is taken for one."""

import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState

from mgnas.errors import UserError
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.storage.study import StudyFile
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import TrialRecord, TrialState

RUNNING, COMPLETE, FAILED = TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAILED


@pytest.fixture(scope="session")
def records_of(small_space):
    """(state, curve, further fields) -> records with the numbers 0, 1, ... and a candidate each."""

    def make(*trials) -> list[TrialRecord]:
        candidates = list(small_space.enumerate())
        return [
            TrialRecord(number, candidates[number], 70 + number, state, list(curve), **further)
            for number, (state, curve, further) in enumerate(trials)
        ]

    return make


@pytest.fixture
def some_records(records_of):
    return records_of(
        (COMPLETE, [0.1, 0.5], {"seconds": 2.5, "finished": 3.125}),
        (RUNNING, [0.25], {}),
        (FAILED, [0.1], {"reason": "the loss became nan in epoch 2", "seconds": 1.25, "finished": 4.0}),
        (RUNNING, [], {}),
        (COMPLETE, [0.2, 0.1 + 0.2], {"seconds": 2.0, "finished": 9.5}),
    )


def store(study: StudyFile, record: TrialRecord) -> None:
    """In the order of a search: the start, each epoch, the end."""
    study.start(record)
    study.epoch(record)
    if record.state is not RUNNING:
        study.end(record)


@pytest.fixture
def study(tmp_path, small_space):
    StudyFile.create(tmp_path / "study.db")
    opened = StudyFile(tmp_path / "study.db", small_space)
    yield opened
    opened.close()


def read(path, space) -> list[TrialRecord]:
    opened = StudyFile(path, space)
    try:
        return opened.load()
    finally:
        opened.close()


# ----------------------------------------------------------------------------------------------------------- round trip


def test_a_new_study_is_empty(study):
    assert study.load() == []


def test_records_come_back_from_the_open_and_from_the_reopened_study(study, small_space, some_records):
    for record in some_records:
        store(study, record)
    assert study.load() == some_records
    study.close()
    assert read(study.path, small_space) == some_records


def test_what_another_process_stores_is_seen_by_a_study_that_was_read_before(study, small_space, some_records):
    reader = StudyFile(study.path, small_space)
    for number, record in enumerate(some_records):
        assert reader.load() == some_records[:number]
        store(study, record)
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
    StudyFile.create(path)
    return path


@settings(max_examples=10)
@given(st.lists(_trials, min_size=1, max_size=4))
def test_any_records_come_back_exactly(endless_study, small_space, records_of, trials):
    study = StudyFile(endless_study, small_space)
    before, records = study.load(), records_of(*trials)
    for record in records:
        record.number += len(before)
        store(study, record)
    study.close()
    assert read(endless_study, small_space) == before + records


def test_a_reopened_study_goes_on(study, small_space, some_records):
    store(study, some_records[0])
    store(study, some_records[1])
    study.close()
    again = StudyFile(study.path, small_space)
    running = again.load()[1]
    again.start(running)  # it is stored already
    running.curve.append(0.75)
    again.epoch(running)
    running.state, running.seconds, running.finished = COMPLETE, 8.0, 12.0
    again.end(running)
    store(again, some_records[2])
    assert again.load() == [some_records[0], running, some_records[2]]
    again.close()


def test_what_is_stored_already_is_not_written_again(study, some_records):
    record = some_records[1]
    watcher = sqlite3.connect(study.path)

    def writes(change) -> bool:
        """The version changes whenever another connection has written."""
        before = watcher.execute("pragma data_version").fetchone()
        change(record)
        return watcher.execute("pragma data_version").fetchone() != before

    assert writes(study.start)
    assert not writes(study.start)
    assert writes(study.epoch)
    assert not writes(study.epoch)
    record.curve.append(0.5)
    assert writes(study.epoch)
    assert not writes(study.epoch)
    watcher.close()
    assert study.load()[0].curve == [0.25, 0.5]


@pytest.mark.parametrize(
    ("curves", "state"),
    [([[0.3], [0.3, 0.4]], COMPLETE), ([[0.3]], FAILED), ([[0.1], [0.1, 0.2], [0.1, 0.2, 0.3]], COMPLETE)],
)
def test_a_curve_that_begins_anew_replaces_the_stored_one(study, small_space, records_of, curves, state):
    """A trial whose checkpoint was lost is trained from its first epoch; on a GPU the numbers may differ."""
    (record,) = records_of((RUNNING, [0.1, 0.2], {}))
    store(study, record)
    for curve in curves:
        record.curve = curve
        study.epoch(record)
    record.state = state
    study.end(record)
    assert study.load() == [record]
    assert read(study.path, small_space) == [record]


# --------------------------------------------------------------------------------------------------------- plain Optuna


def test_plain_optuna_reads_the_study_while_it_is_open(study, small_space, some_records):
    for record in some_records:
        store(study, record)
    loaded = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{study.path}")
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


def test_optuna_finds_the_front(study, small_space):
    """Of three networks, the second is heavier and worse than the first."""
    light, middle, heavy = sorted(small_space.enumerate(), key=lambda candidate: candidate.weights)[::6]
    accuracies = ((middle, 0.5), (heavy, 0.4), (light, 0.3))
    for number, (candidate, value) in enumerate(accuracies):
        store(study, TrialRecord(number, candidate, 0, COMPLETE, [0.0, value], finished=1.0))
    loaded = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{study.path}")
    assert sorted(trial.number for trial in loaded.best_trials) == [0, 2]


def test_trials_have_a_start_and_only_ended_ones_an_end(study, some_records):
    before = time.time()
    for record in some_records:
        store(study, record)
    loaded = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{study.path}")
    for record, trial in zip(some_records, loaded.get_trials(), strict=True):
        assert before - 1 <= trial.datetime_start.timestamp() <= time.time()
        assert (trial.datetime_complete is None) == (record.state is RUNNING)


# ---------------------------------------------------------------------------------------------------------- other files


def test_a_missing_study_is_refused(tmp_path, small_space, refusal):
    assert "is missing" in refusal(lambda: StudyFile(tmp_path / "none.db", small_space))
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"SQLite format 3\0" + bytes(4080)], ids=["empty", "text", "header"]
)
def test_a_file_without_a_study_is_refused(tmp_path, small_space, refusal, content):
    path = tmp_path / "study.db"
    path.write_bytes(content)
    assert refusal(lambda: StudyFile(path, small_space)).startswith(f"{path}: not a readable study of mgnas (")


def test_another_programs_database_is_refused(tmp_path, small_space, refusal):
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table cats (name)")
    connection.close()
    assert "not a readable study of mgnas" in refusal(lambda: StudyFile(path, small_space))


def test_an_optuna_study_of_another_name_is_refused(tmp_path, small_space, refusal):
    path = tmp_path / "study.db"
    optuna.create_study(study_name="other", storage=f"sqlite:///{path}")
    assert "not a readable study of mgnas" in refusal(lambda: StudyFile(path, small_space))


def test_an_optuna_study_of_the_same_name_by_somebody_else_is_refused(tmp_path, small_space, refusal):
    path = tmp_path / "study.db"
    other = optuna.create_study(study_name="mgnas", storage=f"sqlite:///{path}", directions=["maximize", "minimize"])
    values = next(small_space.enumerate()).params
    other.add_trial(
        optuna.trial.create_trial(
            values=[0.5, 100],
            params=values,
            distributions={parameter.name: parameter.distribution for parameter in small_space.parameters},
        )
    )
    assert refusal(lambda: read(path, small_space)).startswith(f"{path}: ")


@pytest.fixture
def stored(study, some_records):
    """The bytes of a study with trials."""
    for record in some_records:
        store(study, record)
    study.close()
    return study.path.read_bytes()


# Changes more pages than SQLite keeps in memory, so that some reach the file, and dies before it has committed.
KILLED_WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma cache_size = 2")
connection.execute("begin immediate")
connection.execute("update trials set number = number + 1000")
connection.execute("create table ballast (content)")
for _ in range(200):
    connection.execute("insert into ballast values (?)", (os.urandom(3000),))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_study_whose_writer_was_killed_is_read_as_it_was_before(study, small_space, stored, some_records):
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(study.path)], check=False)
    assert study.path.read_bytes() != stored
    assert study.path.with_name("study.db-journal").stat().st_size > 0
    assert read(study.path, small_space) == some_records


def damages(content: bytes, page: int = 4096):
    """Every page overwritten, and the file cut before and in the middle of every page."""
    for start in range(0, len(content), page):
        yield f"page {start // page} lost", content[:start] + b"\xff" * page + content[start + page :]
        yield f"cut before page {start // page}", content[:start]
        yield f"cut in page {start // page}", content[: start + page // 2]


def test_a_damaged_study_is_refused(study, small_space, stored):
    """Also where all trials can still be read: an index that has gone wrong would spoil what is written next."""
    unnoticed = []
    for damage, content in damages(stored):
        study.path.write_bytes(content)
        try:
            read(study.path, small_space)
        except UserError as error:
            if len(str(error).splitlines()) == 1:
                continue
        except Exception as error:
            damage = f"{damage}: {type(error).__name__}"
        unnoticed.append(damage)
    assert unnoticed == []


# ----------------------------------------------------------------------------------------------- trials that do not fit

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
def test_trials_outside_a_changed_space_are_refused_by_number(tmp_path, make_space, refusal, changed):
    fixed = {"family": "mgnet"}
    space = make_space(PARAMETERS, fixed=fixed)
    path = tmp_path / "study.db"
    StudyFile.create(path)
    study = StudyFile(path, space)
    fitting = {"base_channels": "4", "smoothing_steps": 1, "sharing": "AB"}
    outside = {"base_channels": "8", "smoothing_steps": 3, "sharing": "A"}
    for number, values in enumerate((fitting, outside)):
        store(study, TrialRecord(number, space.candidate(values), 0, COMPLETE, [0.1, 0.2], finished=1.0))
    study.close()
    left = {name: value for name, value in (PARAMETERS | changed).items() if value is not None}
    other = make_space(left, fixed=fixed)

    def resume():
        Strategy(other, make_sampler("random", 0), n_trials=5, records=read(path, other))

    # The first trial fits unless the parameters are others.
    number = 1 if left.keys() == PARAMETERS.keys() else 0
    assert refusal(resume).startswith(f"{path}: trial {number} does not fit the search space (")


def test_trials_over_a_new_limit_still_count(tmp_path, make_space):
    """They are trained, and a lower budget makes them no less known."""
    fixed = {"family": "mgnet"}
    space = make_space(PARAMETERS, fixed=fixed)
    record = TrialRecord(0, space.candidate({"base_channels": "4-8", "smoothing_steps": 3, "sharing": "A"}), 0)
    record.state, record.curve, record.finished = COMPLETE, [0.1, 0.2], 1.0
    path = tmp_path / "study.db"
    StudyFile.create(path)
    study = StudyFile(path, space)
    store(study, record)
    study.close()
    tight = make_space(PARAMETERS, {"max_weights": record.weights - 1}, fixed)
    assert read(path, tight) == [record]
