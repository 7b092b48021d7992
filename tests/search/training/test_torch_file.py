"""Files that torch.save has written are read; whatever others hold is one of the known errors, and runs no code."""

import contextlib
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.training.torch_file import UNREADABLE, read_torch_file


def saved(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


GOOD = saved({"weights": torch.arange(6.0).reshape(2, 3), "epoch": 3})
_OPCODES = st.binary(max_size=40) | st.lists(
    st.sampled_from(b"(.0123RX]abcehjlpqrstu}\x85\x86\x87\n\0 "), max_size=40
).map(bytes)


def zipped(data: bytes) -> bytes:
    """The pickle of a file, in the archive that torch expects."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(GOOD)) as good, zipfile.ZipFile(buffer, "w") as archive:
        for name in good.namelist():
            archive.writestr(name, data if name.endswith("data.pkl") else good.read(name))
    return buffer.getvalue()


def test_what_was_saved_is_read(tmp_path):
    (tmp_path / "a.pt").write_bytes(GOOD)
    state = read_torch_file(tmp_path / "a.pt", "cpu")
    assert state["epoch"] == 3
    assert torch.equal(state["weights"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.filterwarnings("error")
@given(content=st.binary(max_size=60) | _OPCODES.map(lambda data: b"\x80\x02" + data))
def test_any_other_file_is_a_known_error(new_path, content):
    path = new_path("a.pt")
    path.write_bytes(content)
    with pytest.raises(UNREADABLE):
        read_torch_file(path, "cpu")


@pytest.mark.filterwarnings("error")
@given(content=_OPCODES.map(lambda data: b"\x80\x02" + data))
def test_any_pickle_in_an_archive_is_read_or_a_known_error(new_path, content):
    path = new_path("a.pt")
    path.write_bytes(zipped(content))
    with contextlib.suppress(UNREADABLE):
        read_torch_file(path, "cpu")


@given(share=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255))
def test_a_damaged_file_is_read_or_a_known_error(new_path, share, flipped):
    place = int(share * len(GOOD))
    path = new_path("a.pt")
    path.write_bytes(GOOD[:place] + bytes([GOOD[place] ^ flipped]) + GOOD[place + 1 :])
    with contextlib.suppress(UNREADABLE):
        read_torch_file(path, "cpu")


class Touch:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return io.open, (str(self.path), "w")


@pytest.mark.parametrize("pack", [zipped, lambda data: data], ids=["archive", "pickle"])
def test_no_code_runs(tmp_path, pack):
    (tmp_path / "a.pt").write_bytes(pack(pickle.dumps(Touch(tmp_path / "touched"), protocol=2)))
    with pytest.raises(UNREADABLE):
        read_torch_file(tmp_path / "a.pt", "cpu")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x89PNG\r\n", b"{}", b"name: x\n"])
def test_files_of_everyday_kinds_are_known_errors(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"not written by torch\.save"):
        read_torch_file(tmp_path / "a.pt", "cpu")


def test_arrays_and_missing_files_are_known_errors(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    for name in ("a.npz", "none.pt"):
        with pytest.raises(UNREADABLE):
            read_torch_file(tmp_path / name, "cpu")
