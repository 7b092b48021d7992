"""The lock of a run directory, against another process that holds it, or held it until it was killed."""

import os
import socket
import subprocess
import sys

import pytest

from mgnas.search.storage.run_lock import RunLock, holder_of

HOLD = """
import sys
from pathlib import Path
from mgnas.search.storage.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_with_host_and_process_of_the_first(tmp_path, other, refusal):
    message = refusal(lambda: RunLock(tmp_path).__enter__())
    assert message.startswith(f"{tmp_path}: process {other.pid} on {socket.gethostname()} is searching here already")
    assert holder_of(tmp_path)["pid"] == other.pid


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, other):
    other.kill()
    other.wait()
    assert (tmp_path / "driver.json").exists()
    assert holder_of(tmp_path) is None
    with RunLock(tmp_path):
        assert holder_of(tmp_path)["host"] == socket.gethostname()
    assert holder_of(tmp_path) is None
    assert not (tmp_path / "driver.json").exists()


def test_the_lock_is_free_when_its_holder_ends(tmp_path, other):
    other.communicate("")
    with RunLock(tmp_path):
        assert holder_of(tmp_path)["pid"] == os.getpid()


def test_the_holder_may_enter_again(tmp_path, refusal):
    lock = RunLock(tmp_path)
    with lock:
        with lock:
            assert holder_of(tmp_path)["pid"] == os.getpid()
        # Leaving the inner one has not freed it: a second lock object of the same process is another search.
        message = refusal(lambda: RunLock(tmp_path).__enter__())
        assert f"process {os.getpid()} on {socket.gethostname()} is searching here already" in message
    assert holder_of(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', '{"host": "x", "pid": "y"}'])
def test_a_damaged_note_of_the_holder_is_nobody(tmp_path, content):
    (tmp_path / "driver.json").write_text(content)
    assert holder_of(tmp_path) is None


def test_a_holder_on_another_host_is_believed(tmp_path):
    (tmp_path / "driver.json").write_text('{"host": "elsewhere", "pid": 1, "since": 5}')
    assert holder_of(tmp_path) == {"host": "elsewhere", "pid": 1, "since": 5}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, refusal):
    (tmp_path / "file").write_text("")
    message = refusal(lambda: RunLock(tmp_path / "file").__enter__())
    assert message.startswith(f"{tmp_path / 'file'}: cannot be written (")
