"""The lock of a run directory, against another process that holds it, or held it until it was killed."""

import os
import socket
import subprocess
import sys
import threading

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


REFUSED = """
import sys
from pathlib import Path
from mgnas.search.storage.run_lock import RunLock
try:
    RunLock(Path(sys.argv[1])).__enter__()
except Exception as error:
    print(error)
"""

# What a network disk without file locks answers.
WITHOUT_LOCKS = """
import errno, fcntl, os
def flock(descriptor, operation):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
"""


def held_by(folder) -> dict:
    holder = holder_of(folder)
    assert holder is not None
    return holder


@pytest.fixture
def start(tmp_path):
    """Code -> a process that runs it with `tmp_path` as its argument; it is killed at the end."""
    processes = []

    def run(code: str) -> subprocess.Popen:
        command = [sys.executable, "-c", code, str(tmp_path)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def other(start):
    """Another process that holds the lock of `tmp_path`."""
    process = start(HOLD)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_refused_with_host_and_process_of_the_first(tmp_path, other, refusal):
    message = refusal(lambda: RunLock(tmp_path).__enter__())
    assert message.startswith(f"{tmp_path}: process {other.pid} on {socket.gethostname()} is searching here already")
    assert held_by(tmp_path)["pid"] == other.pid


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, other):
    other.kill()
    other.wait()
    assert (tmp_path / "driver.json").exists()
    assert holder_of(tmp_path) is None
    with RunLock(tmp_path):
        assert held_by(tmp_path)["host"] == socket.gethostname()
    assert holder_of(tmp_path) is None
    assert not (tmp_path / "driver.json").exists()


def test_the_lock_is_free_when_its_holder_ends(tmp_path, other):
    other.communicate("")
    with RunLock(tmp_path):
        assert held_by(tmp_path)["pid"] == os.getpid()


def test_the_holder_may_enter_again(tmp_path, refusal):
    lock = RunLock(tmp_path)
    with lock:
        with lock:
            assert held_by(tmp_path)["pid"] == os.getpid()
        # Leaving the inner one has not freed it: a second lock object of the same process is another search.
        message = refusal(lambda: RunLock(tmp_path).__enter__())
        assert f"process {os.getpid()} on {socket.gethostname()} is searching here already" in message
    assert holder_of(tmp_path) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"host": 1}', '{"host": "x", "pid": "y"}', '{"host": "HERE", "pid": 1e30}']
)
def test_a_damaged_note_of_the_holder_is_nobody(tmp_path, content):
    (tmp_path / "driver.json").write_text(content.replace("HERE", socket.gethostname()))
    assert holder_of(tmp_path) is None


def test_a_holder_on_another_host_is_believed(tmp_path):
    (tmp_path / "driver.json").write_text('{"host": "elsewhere", "pid": 1, "since": 5}')
    assert holder_of(tmp_path) == {"host": "elsewhere", "pid": 1, "since": 5}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, refusal):
    (tmp_path / "file").write_text("")
    message = refusal(lambda: RunLock(tmp_path / "file").__enter__())
    assert message.startswith(f"{tmp_path / 'file'}: cannot be written (")


def test_a_lock_is_held_by_all_threads_of_its_process(tmp_path):
    with RunLock(tmp_path) as lock:
        thread = threading.Thread(target=lambda: lock.__enter__().__exit__(None, None, None))
        thread.start()
        thread.join()
        assert held_by(tmp_path)["pid"] == os.getpid()
    assert holder_of(tmp_path) is None


def test_a_disk_without_locks_keeps_the_second_out_and_the_dead_do_not_stay(start):
    first = start(WITHOUT_LOCKS + HOLD)
    assert first.stdout.readline() == "held\n"
    refused, _ = start(WITHOUT_LOCKS + REFUSED).communicate()
    assert f"process {first.pid} on {socket.gethostname()} is searching here already" in refused
    first.kill()
    first.wait()
    second = start(WITHOUT_LOCKS + HOLD)
    assert second.stdout.readline() == "held\n"
