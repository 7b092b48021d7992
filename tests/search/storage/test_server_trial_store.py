"""The study on a database server: a real PostgreSQL that is started here, where there is one."""

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from mgnas.errors import SearchStoppedError
from mgnas.search.storage.journal import Journal
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.storage.server_address import has_password, without_password
from mgnas.search.storage.server_trial_store import ServerTrialStore
from mgnas.search.trial_record import TrialRecord, TrialState


def binary(name: str) -> str:
    """The file of a program of PostgreSQL; empty if it is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or next((str(path) for path in installed), "")


class Postgres:
    """A server of its own, on a free port of the loopback interface."""

    def __init__(self, folder: Path) -> None:
        # PostgreSQL refuses to be run by root.
        self._options: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        self._data = folder / "data"
        if self._options:
            shutil.chown(folder, "nobody", "nogroup")
        quiet: dict[str, Any] = {"check": True, "capture_output": True, "cwd": folder, **self._options}
        trust = ["--auth-host=trust", "--auth-local=trust", "--username=mgnas", "--no-sync"]
        subprocess.run([binary("initdb"), "-D", str(self._data), *trust], **quiet)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://mgnas@127.0.0.1:{self.port}/postgres"
        self.start()

    def start(self) -> None:
        options = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._data)]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self._data.parent}
        self.process = subprocess.Popen([binary("postgres"), *options], **quiet, **self._options)
        import psycopg

        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def stop(self) -> None:
        self.process.send_signal(3)  # SIGQUIT: at once
        self.process.wait(30)


@pytest.fixture(scope="module")
def postgres():
    pytest.importorskip("psycopg")
    if not (binary("initdb") and binary("postgres")):
        pytest.skip("needs PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="mgnas-postgres-"))
    server = Postgres(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def records_for(run, count: int) -> list[TrialRecord]:
    candidates = list(run.space.enumerate())
    made = [
        TrialRecord(number, candidates[number], number, TrialState.COMPLETE, [0.1, 0.2 + number / 10], seconds=1.0)
        for number in range(count)
    ]
    made[1].state, made[1].reason, made[1].curve = TrialState.FAILED, "the loss became nan in epoch 1", []
    made[2].state, made[2].curve = TrialState.RUNNING, [0.5]
    made[2].seconds = 0.0
    for record in made:
        record.finished = None if record.state is TrialState.RUNNING else 1.5
    return made


def store(run, records) -> None:
    for record in records:
        run.record_start(record)
        run.record_epoch(record)
        if record.state is not TrialState.RUNNING:
            run.record_end(record)


def test_a_study_on_a_server_is_read_by_many(postgres, small_search, tmp_path):
    run = RunDirectory.create(small_search(), tmp_path / "runs", study=postgres.url)
    other = RunDirectory.create(small_search(), tmp_path / "elsewhere", study=postgres.url)
    assert not (run.path / "study.db").exists()
    records = records_for(run, 3)
    store(run, records)
    assert RunDirectory(run.path).load() == records
    # Readers see each trial as soon as it is stored, and every run has a study of its own.
    reader = RunDirectory(run.path)
    records[2].curve.append(0.75)
    records[2].state, records[2].seconds, records[2].finished = TrialState.COMPLETE, 2.0, 3.0
    run.record_epoch(records[2])
    run.record_end(records[2])
    assert reader.load() == records
    assert other.load() == []


def test_a_run_goes_on_with_its_study_on_a_server(postgres, small_search, tmp_path):
    run = RunDirectory.create(small_search(), tmp_path / "runs", study=postgres.url)
    records = records_for(run, 3)
    store(run, records)
    with RunDirectory.open_for_resume(run.path) as again:
        assert again.load() == records
        assert Journal(run.path / "journal.jsonl").read(run.space)[:2] == records[:2]


def test_a_server_that_goes_away_stops_the_search_and_may_come_back(postgres, small_search, tmp_path, refusal):
    run = RunDirectory.create(small_search(), tmp_path / "runs", study=postgres.url)
    records = records_for(run, 3)
    store(run, records[:2])
    postgres.stop()
    with pytest.raises(SearchStoppedError, match=r"study small-1-.* on postgresql://mgnas@127.*: cannot be written"):
        run.record_start(records[2])
    assert "cannot be read" in refusal(lambda: RunDirectory(run.path))
    postgres.start()
    assert RunDirectory(run.path).load() == records[:2]


def test_servers_that_cannot_be_used_are_refused(small_search, tmp_path, refusal):
    def create(study: str) -> str:
        return refusal(lambda: RunDirectory.create(small_search(), tmp_path / "runs", study=study))

    pytest.importorskip("psycopg")
    assert create("postgresql://u:secret@127.0.0.1:1/x").startswith(
        "--study postgresql://u:***@127.0.0.1:1/x: cannot be"
    )
    for address in ("redis://host", "nonsense", "sqlite:///x.db", "", "http://[::1"):
        assert "expected postgresql://USER@HOST/DATABASE" in create(address)
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


def test_a_password_is_shown_nowhere_and_read_by_its_owner_alone(postgres, small_search, tmp_path):
    url = postgres.url.replace("mgnas@", "mgnas:hush@")
    run = RunDirectory.create(small_search(), tmp_path / "runs", study=url)
    assert stat.S_IMODE((run.path / "run.json").stat().st_mode) == 0o600
    assert "hush" not in (run.path / "config.yaml").read_text()
    assert "hush" not in ServerTrialStore(url, f"{run.path.name}-{run.id}", run.space).label
    assert (has_password(url), has_password(postgres.url)) == (True, False)
    assert without_password(url) == postgres.url.replace("mgnas@", "mgnas:***@")
