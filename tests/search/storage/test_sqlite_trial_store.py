"""The file of a study: missing, damaged, of another program, or left behind by a killed writer."""

import sqlite3
import subprocess
import sys

import optuna
import pytest

from mgnas.errors import UserError
from mgnas.search.storage import sqlite_trial_store
from mgnas.search.storage.sqlite_trial_store import DamagedStudyError, SqliteTrialStore


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


def test_the_trials_of_an_optuna_study_of_the_same_name_by_somebody_else_are_ignored(
    tmp_path, small_space, read_trials, caplog
):
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
    assert read_trials(path, small_space) == []
    assert f"{path}: 1 trials of other programs are ignored (0)" in caplog.text


# ----------------------------------------------------------------------------------- healthy files that cannot be used

LOCKER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin exclusive")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def locked(store):
    """(seconds) -> another process has locked the study for so long."""
    processes = []
    store.close()

    def lock(seconds: float) -> None:
        arguments = [sys.executable, "-c", LOCKER, str(store.path), str(seconds)]
        processes.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "locked\n"

    yield lock
    for process in processes:
        process.kill()
        process.communicate()


def test_a_locked_study_is_waited_for(store, small_space, locked, read_trials):
    locked(1.0)
    assert read_trials(store.path, small_space) == []


def test_a_study_that_stays_locked_is_not_called_damaged(store, small_space, locked, monkeypatch):
    monkeypatch.setattr(sqlite_trial_store, "_LOCK_SECONDS", 0.2)
    locked(60)
    with pytest.raises(UserError) as caught:
        SqliteTrialStore(store.path, small_space)
    assert not isinstance(caught.value, DamagedStudyError)
    assert str(caught.value).startswith(f"{store.path}: cannot be used now (database is locked); another program has")


def damaged(path, space) -> bool:
    with pytest.raises(UserError, match=r"\A[^\n]*\Z") as caught:
        SqliteTrialStore(path, space).close()
    return isinstance(caught.value, DamagedStudyError)


ENDLESS = "create view {} as with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"


def test_a_file_that_takes_too_long_to_check_is_refused(store, small_space, monkeypatch, refusal):
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("create table slow (a, check (length(hex(zeroblob(200000000))) > a))")
        connection.execute("insert into slow values (1)")
    connection.close()
    monkeypatch.setattr(sqlite_trial_store, "_CHECK_SECONDS", 0.01)
    message = refusal(lambda: SqliteTrialStore(store.path, small_space))
    assert message.startswith(f"{store.path}: SQLite's check takes more than 0.01 seconds; ")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("drop table trials", id="without a table"),
        pytest.param(f"drop table trials; {ENDLESS.format('trials')}", id="endless view in place of a table"),
        pytest.param(ENDLESS.format("cats"), id="view beside the tables"),
        pytest.param("create trigger t after insert on trials begin delete from trials; end", id="trigger"),
        pytest.param("alter table trials add c generated always as (hex(zeroblob(9))) virtual", id="computed column"),
        pytest.param("create virtual table t using fts5(a)", id="virtual table"),
        pytest.param("delete from studies", id="without a study"),
        pytest.param("update studies set study_name = 'renamed'", id="renamed study"),
        pytest.param("update trial_user_attributes set value_json = '{'", id="garbled attribute"),
        pytest.param("update trials set state = 'SLEEPING'", id="unknown state"),
        pytest.param("update alembic_version set version_num = 'v99'", id="of a later schema"),
    ],
)
def test_a_healthy_file_with_another_content_is_refused_but_not_damaged(
    store, small_space, some_records, write_trial, change
):
    write_trial(store, some_records[0])
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.executescript(change)
    connection.close()
    assert not damaged(store.path, small_space)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(8192), b"SQLite format 3\0" + bytes(4080)])
def test_an_empty_file_and_one_that_is_no_database_are_damaged(tmp_path, small_space, content):
    (tmp_path / "study.db").write_bytes(content)
    assert damaged(tmp_path / "study.db", small_space)


def test_another_programs_database_is_not_damaged(tmp_path, small_space):
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("create table cats (name)")
    connection.close()
    assert not damaged(tmp_path / "study.db", small_space)


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
