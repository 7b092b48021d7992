"""Trials in all states, and the SQLite file that stores them."""

import pytest

from mgnas.search.storage.sqlite_trial_store import SqliteTrialStore
from mgnas.search.trial_record import ExpectedGain, TrialRecord, TrialState

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
        (COMPLETE, [0.2, 0.1 + 0.2], {"seconds": 2.0, "finished": 9.5, "gain": ExpectedGain(20, 0.008)}),
    )


@pytest.fixture(scope="session")
def write_trial():
    """Stores a trial in the order of a search: the start, each epoch, the end."""

    def write(store: SqliteTrialStore, record: TrialRecord) -> None:
        store.start(record)
        store.epoch(record)
        if record.state is not RUNNING:
            store.end(record)

    return write


@pytest.fixture
def store(tmp_path, small_space):
    SqliteTrialStore.create(tmp_path / "study.db")
    opened = SqliteTrialStore(tmp_path / "study.db", small_space)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def read_trials():
    """(file, space) -> the trials in it."""

    def read(path, space) -> list[TrialRecord]:
        opened = SqliteTrialStore(path, space)
        try:
            return opened.load()
        finally:
            opened.close()

    return read
