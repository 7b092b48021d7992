"""The folder of Ray's sockets: nobody else may enter it, its path is short, and none stays for ever."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mgnas.search.tuner.private_folder import private_folder


@pytest.fixture
def place(monkeypatch):
    """The folder for temporary files, with a short path."""
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_it_is_its_owners_alone_and_goes_at_the_end(place):
    with private_folder() as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "r").mkdir(mode=0o777)
    assert list(place.iterdir()) == []


def test_it_goes_after_an_error_too(place):
    with pytest.raises(ValueError, match="any"), private_folder():
        raise ValueError("any")
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_may_not_look_inside(place):
    place.chmod(0o755)
    with private_folder() as folder:
        (folder / "r").mkdir()
        (folder / "r").chmod(0o777)
        code = "import os, sys; os.setuid(65534); open(sys.argv[1], 'w')"
        command = [sys.executable, "-c", code, str(folder / "r" / "planted")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Permission denied" in result.stderr
        assert list((folder / "r").iterdir()) == []


def test_a_socket_below_it_has_a_path_that_systems_take():
    with private_folder() as folder:
        session = "session_2026-11-26_19-53-33_151062_4194304"
        assert len(str(folder / "r" / session / "sockets" / "plasma_store")) <= 107


def test_a_long_place_is_not_used(monkeypatch, tmp_path):
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with private_folder() as folder:
        assert deep not in folder.parents
        assert len(str(folder)) <= 40


KILLED = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from mgnas.search.tuner.private_folder import private_folder
with private_folder():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def age(folder: Path) -> None:
    os.utime(folder, (time.time() - 1000, time.time() - 1000))


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_is_in_use_stays(place):
    subprocess.run([sys.executable, "-c", KILLED, str(place)], check=False)
    (left,) = place.iterdir()
    with private_folder() as first:
        assert not left.exists()
        age(first)
        with private_folder() as second:
            assert set(place.iterdir()) == {first, second}


def test_a_link_and_a_young_folder_are_left_alone(place, tmp_path):
    (tmp_path / "precious").mkdir()
    (place / "mgnas-r-link").symlink_to(tmp_path)
    (place / "mgnas-r-young").mkdir()
    with private_folder():
        pass
    assert {path.name for path in place.iterdir()} == {"mgnas-r-link", "mgnas-r-young"}
    assert (tmp_path / "precious").exists()
