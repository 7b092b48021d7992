"""Checkpoints on a disk, at an address of pyarrow, and at one that only fsspec knows."""

import itertools

import fsspec
import pytest

from mgnas.search.storage.checkpoints import Checkpoint, CheckpointUnavailableError, check_storage

_numbers = itertools.count()


@pytest.fixture(params=["disk", "file", "memory"])
def address(request, tmp_path) -> str:
    """Of the checkpoint of a trial whose folder does not exist yet, unless it is on a disk."""
    if request.param == "disk":
        return str(tmp_path / "00005.pt")
    if request.param == "file":
        return f"file://{tmp_path}/run/00005.pt"
    return f"memory://checkpoints-{next(_numbers)}/00005.pt"


@pytest.fixture
def unreachable(tmp_path, monkeypatch):
    """Kind of storage -> an address below a file instead of a folder."""
    monkeypatch.setattr("mgnas.search.storage.checkpoints._TRIES", 1)
    (tmp_path / "file").write_text("")
    return {"disk": f"{tmp_path}/file/00005.pt", "file": f"file://{tmp_path}/file/00005.pt"}


def contents(address: str) -> list[bytes]:
    """Of the newest and the previous checkpoint, as another process reads them."""
    with Checkpoint(address).versions() as paths:
        return [path.read_bytes() for path in paths]


def files_beside(address: str) -> list[str]:
    files, path = fsspec.core.url_to_fs(address)
    return sorted(name.rpartition("/")[2] for name in files.ls(path.rpartition("/")[0], detail=False))


def test_the_newest_checkpoint_comes_first_and_one_before_it_is_kept(address):
    checkpoint = Checkpoint(address)
    assert contents(address) == []
    for epoch in (b"one", b"two", b"three"):
        checkpoint.save(epoch)
    assert contents(address) == [b"three", b"two"]
    assert files_beside(address) == ["00005.previous.pt", "00005.pt"]
    assert checkpoint.previous == address.replace("00005.pt", "00005.previous.pt")


def test_a_single_checkpoint_has_none_before_it(address):
    Checkpoint(address).save(memoryview(b"one"))
    assert contents(address) == [b"one"]


def test_the_previous_one_is_left_if_the_newest_was_lost_between_two_renames(address):
    checkpoint = Checkpoint(address)
    checkpoint.save(b"one")
    checkpoint.save(b"two")
    files, path = fsspec.core.url_to_fs(address)
    files.rm(path)
    assert contents(address) == [b"one"]
    checkpoint.save(b"three")
    assert contents(address) == [b"three", b"one"]


def test_removed_checkpoints_are_gone_and_may_be_removed_again(address):
    checkpoint = Checkpoint(address)
    checkpoint.remove()
    checkpoint.save(b"one")
    checkpoint.save(b"two")
    checkpoint.remove()
    assert contents(address) == []
    checkpoint.remove()


@pytest.mark.parametrize("kind", ["disk", "file"])
def test_a_storage_that_cannot_be_written_says_so_in_one_line(unreachable, kind):
    with pytest.raises(CheckpointUnavailableError) as caught:
        Checkpoint(unreachable[kind]).save(b"one")
    assert str(caught.value).startswith(f"{unreachable[kind]}: cannot be written (")
    assert len(str(caught.value).splitlines()) == 1


def test_a_failed_save_leaves_nothing_half_written_and_keeps_what_was_there(tmp_path):
    checkpoint = Checkpoint(str(tmp_path / "00005.pt"))
    checkpoint.save(b"one")
    (tmp_path / "00005.previous.pt").mkdir()
    with pytest.raises(CheckpointUnavailableError):
        checkpoint.save(b"two")
    assert (tmp_path / "00005.pt").read_bytes() == b"one"
    assert files_beside(checkpoint.address) == ["00005.previous.pt", "00005.pt"]


def test_an_unknown_protocol_is_tried_and_named(monkeypatch):
    monkeypatch.setattr("mgnas.search.storage.checkpoints._TRIES", 1)
    for action in (lambda c: c.save(b""), lambda c: c.remove(), lambda c: contents(c.address)):
        with pytest.raises(CheckpointUnavailableError, match=r"nonsense://x/1.pt: cannot be (written|deleted|read) \("):
            action(Checkpoint("nonsense://x/1.pt"))


def test_a_storage_is_checked_by_writing_to_it(tmp_path, unreachable, refusal):
    for storage in (f"{tmp_path}/new/folder", f"file://{tmp_path}/other", "memory://checked"):
        check_storage(storage)
    assert list((tmp_path / "new" / "folder").iterdir()) == list((tmp_path / "other").iterdir()) == []
    for address in unreachable.values():
        storage = address.removesuffix("/00005.pt")
        assert refusal(lambda storage=storage: check_storage(storage)).startswith(
            f"resources.storage: {storage} cannot be used ("
        )
