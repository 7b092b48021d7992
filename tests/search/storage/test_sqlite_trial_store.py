"""The file of a study: missing, damaged, of another program, or left behind by a killed writer."""

import sqlite3
import subprocess
import sys

import optuna
import pytest

from mgnas.errors import UserError
from mgnas.search.storage.sqlite_trial_store import SqliteTrialStore


def test_a_missing_study_is_refused(tmp_path, small_space, refusal):
    assert "is missing" in refusal(lambda: SqliteTrialStore(tmp_path / "none.db", small_space))
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"SQLite format 3\0" + bytes(4080)], ids=["empty", "text", "header"]
)
def test_a_file_without_a_study_is_refused(tmp_path, small_space, refusal, content):
    path = tmp_path / "study.db"
    path.write_bytes(content)
    assert refusal(lambda: SqliteTrialStore(path, small_space)).startswith(f"{path}: not a readable study of mgnas (")


def test_another_programs_database_is_refused(tmp_path, small_space, refusal):
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table cats (name)")
    connection.close()
    assert "not a readable study of mgnas" in refusal(lambda: SqliteTrialStore(path, small_space))


def test_an_optuna_study_of_another_name_is_refused(tmp_path, small_space, refusal):
    path = tmp_path / "study.db"
    optuna.create_study(study_name="other", storage=f"sqlite:///{path}")
    assert "not a readable study of mgnas" in refusal(lambda: SqliteTrialStore(path, small_space))


def test_an_optuna_study_of_the_same_name_by_somebody_else_is_refused(tmp_path, small_space, refusal, read_trials):
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
    assert refusal(lambda: read_trials(path, small_space)).startswith(f"{path}: ")


@pytest.fixture
def stored(store, some_records, write_trial):
    """The bytes of a study with trials."""
    for record in some_records:
        write_trial(store, record)
    store.close()
    return store.path.read_bytes()


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


def test_a_study_whose_writer_was_killed_is_read_as_it_was_before(
    store, small_space, stored, some_records, read_trials
):
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(store.path)], check=False)
    assert store.path.read_bytes() != stored
    assert store.path.with_name("study.db-journal").stat().st_size > 0
    assert read_trials(store.path, small_space) == some_records


def damages(content: bytes, page: int = 4096):
    """Every page overwritten, and the file cut before and in the middle of every page."""
    for start in range(0, len(content), page):
        yield f"page {start // page} lost", content[:start] + b"\xff" * page + content[start + page :]
        yield f"cut before page {start // page}", content[:start]
        yield f"cut in page {start // page}", content[: start + page // 2]


def test_a_damaged_study_is_refused(store, small_space, stored, read_trials):
    """Also where all trials can still be read: an index that has gone wrong would spoil what is written next."""
    unnoticed = []
    for damage, content in damages(stored):
        store.path.write_bytes(content)
        try:
            read_trials(store.path, small_space)
        except UserError as error:
            if len(str(error).splitlines()) == 1:
                continue
        except Exception as error:
            damage = f"{damage}: {type(error).__name__}"
        unnoticed.append(damage)
    assert unnoticed == []
