"""Addresses of database servers: no secret is shown, and no server is connected to that the user has not named."""

import json
import socket
import threading

import pytest

from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.storage.server_address import has_password, is_trusted, trust, without_password, without_secrets

SHOWN = {
    "postgresql://h/db": "postgresql://h/db",
    "postgresql://u@h:5432/db": "postgresql://u@h:5432/db",
    "postgresql+psycopg://u@[::1]:5432/db?sslmode=require": "postgresql+psycopg://u@[::1]:5432/db?sslmode=require",
    "postgresql://u:secret@h/db": "postgresql://u:***@h/db",
    "postgresql://u:@h/db": "postgresql://u:***@h/db",
    "postgresql://u:s%40cret@h/db": "postgresql://u:***@h/db",
    "postgresql://:secret@h/db": "postgresql://:***@h/db",
    "postgresql://h/db?user=u&password=secret": "postgresql://h/db?user=u&password=***",
    "postgresql://h/db?PASSWORD=secret": "postgresql://h/db?PASSWORD=***",
    "mysql://h/db?passwd=secret&charset=utf8": "mysql://h/db?passwd=***&charset=utf8",
    "postgresql://u@h/db?options=-csecret": "postgresql://u@h/db?options=***",
    "postgresql://u:secret@cret@h/db": "postgresql://h",
    "postgresql://u:se:cret@h/db": "postgresql://u:***@h/db",
    "postgresql://u:se/cret@h/db": "postgresql://***",
    "postgresql://u:se?cret@h/db": "postgresql://***",
    "postgresql://u:se#cret@h/db": "postgresql://***",
    "postgresql://u:s@e/cret@h/db": "postgresql://***",
    "postgresql://u:secret/db": "postgresql://***",
    "postgresql://h/db?password=se@cret": "postgresql://***",
    "postgresql://u:secret@h:port/db": "postgresql://h",
    "postgresql://u:secret@[::1/db": "postgresql://[",
    "u:secret@h/db": "an address that cannot be read",
    "host=h password=secret": "an address that cannot be read",
    "password=secret://h": "an address that cannot be read",
    "": "an address that cannot be read",
}


@pytest.mark.parametrize(("url", "shown"), SHOWN.items())
def test_an_address_is_shown_without_its_secrets(url, shown):
    assert without_password(url) == shown
    assert "secret" not in shown
    assert "cret" not in shown
    assert has_password(url) is (shown != url)


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("no secret here", "postgresql://u:secret@h/db", "no *** here"),
        ("bad: postgresql://u:x@h/db", "postgresql://u:x@h/db", "bad: postgresql://u:***@h/db"),
        ('"p4ss" refused', "postgresql://h/db?user=u&password=p4ss", '"***" refused'),
        ("s@fe", "postgresql://u:s%40fe@h/db", "***"),
        ("user u, host h", "postgresql://u@h/db?sslmode=require", "user u, host h"),
        ("plain", "nonsense", "plain"),
    ],
)
def test_a_drivers_message_does_not_give_them_away(text, url, shown):
    assert without_secrets(text, url) == shown


def test_a_server_is_trusted_for_one_run_and_by_one_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "alice"))
    assert not is_trusted("run", "postgresql://h/db")
    trust("run", "postgresql://h/db")
    trust("run", "postgresql://h/db")
    assert is_trusted("run", "postgresql://h/db")
    assert not is_trusted("other", "postgresql://h/db")
    assert not is_trusted("run", "postgresql://evil/db")
    (file,) = (tmp_path / "alice" / "mgnas").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text().split()) == 1
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "bob"))
    assert not is_trusted("run", "postgresql://h/db")


def test_a_folder_that_cannot_be_written_is_no_trouble(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    trust("run", "postgresql://h/db")
    assert not is_trusted("run", "postgresql://h/db")


@pytest.fixture
def listener():
    """A port, and how many connections it has taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = []

        def accept() -> None:
            while True:
                try:
                    taken.append(server.accept()[0].close())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], taken


@pytest.fixture
def received(run, listener):
    """A run directory from somebody else whose run.json names a server."""
    metadata = json.loads((run.path / "run.json").read_text())
    metadata |= {"study": f"postgresql://u:hush@127.0.0.1:{listener[0]}/db", "study_name": "theirs"}
    (run.path / "run.json").write_text(json.dumps(metadata))
    return run.path


def test_a_server_that_only_a_received_run_names_is_not_connected_to(received, listener, command, monkeypatch):
    monkeypatch.delenv("MGNAS_STUDY", raising=False)
    monkeypatch.setenv("PGPASSWORD", "mine")
    for name in ("status", "resume", "report", "select"):
        code, out, err = command(name, received)
        assert (code, out) == (2, "")
        assert "run.json: its study is on a server that you have not named yet (postgresql://u:***@127.0.0.1:" in err
        assert "--study or MGNAS_STUDY" in err
    assert listener[1] == []


def test_a_server_that_the_user_names_is_connected_to(received, listener, refusal, monkeypatch):
    pytest.importorskip("psycopg")
    address = f"postgresql://me@127.0.0.1:{listener[0]}/db"
    assert f"study theirs on {address}: cannot be read" in refusal(lambda: RunDirectory(received, address))
    monkeypatch.setenv("MGNAS_STUDY", address)
    assert f"study theirs on {address}: cannot be read" in refusal(lambda: RunDirectory(received))
    assert len(listener[1]) >= 2


@pytest.mark.parametrize("study", [5, ["postgresql://h/db"], {"a": 1}, True])
def test_a_run_json_with_something_else_for_an_address_is_damaged(run, caplog, study):
    metadata = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(metadata | {"study": study}))
    assert len(RunDirectory(run.path).load()) == 7
    assert "run.json: is damaged" in caplog.text
