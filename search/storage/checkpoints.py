"""Where a running trial keeps its progress: a file, and the one before it, on a disk or at any address of pyarrow.

A checkpoint is written beside its place and moved there, so whoever is killed leaves a whole one; should it be damaged
all the same (a disk, a machine that lost power), the one before is an epoch older.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mgnas.errors import UserError

_TRIES = 3


class CheckpointUnavailableError(RuntimeError):
    """The place of a checkpoint cannot be written or read, which says nothing about the trial."""


class Checkpoint:
    """The progress of one trial.

    Args:
        address: its file, or protocol://..., as pyarrow or fsspec name it.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._files = _RemoteFiles(address) if "://" in address else _LocalFiles(Path(address))

    @property
    def previous(self) -> str:
        """Where the checkpoint before is kept."""
        return _previous(self.address)

    def save(self, content: bytes | memoryview) -> None:
        """Keep this; what was the newest becomes the previous one.

        Raises:
            CheckpointUnavailableError: the place cannot be written, or its disk is full.
        """
        self._files.save(content)

    @contextlib.contextmanager
    def versions(self) -> Iterator[Iterator[Path]]:
        """A context that gives the newest checkpoint and the one before, as far as they are there, as local files.

        Raises:
            CheckpointUnavailableError: the place cannot be read.
        """
        with self._files.versions() as found:
            yield found

    def remove(self) -> None:
        """Forget the trial's progress.

        Raises:
            CheckpointUnavailableError: the place cannot be reached.
        """
        self._files.remove()


def check_storage(address: str) -> None:
    """Try to write and to delete a file in a folder or at an address where checkpoints are to be kept.

    Raises:
        UserError: that fails.
    """
    name = f".mgnas-{os.getpid()}-{time.time_ns()}.pt"
    trial = Checkpoint(f"{address.rstrip('/')}/{name}")
    try:
        if "://" not in address:
            Path(address).mkdir(parents=True, exist_ok=True)
        trial.save(b"mgnas")
        trial.remove()
    except (CheckpointUnavailableError, OSError) as error:
        raise UserError(f"resources.storage: {address} cannot be used ({_first_line(error)})") from None


class _LocalFiles:
    """On a disk that this process sees."""

    def __init__(self, path: Path) -> None:
        self.path, self.previous = path, Path(_previous(str(path)))

    def save(self, content: bytes | memoryview) -> None:
        # Each process has its own temporary file: the worker of a killed driver may still be at its last epoch.
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if self.path.exists():
                self.path.replace(self.previous)
            temporary.replace(self.path)
        except OSError as error:
            raise CheckpointUnavailableError(f"{self.path}: cannot be written ({_first_line(error)})") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def versions(self) -> Iterator[Iterator[Path]]:
        try:
            found = [path for path in (self.path, self.previous) if path.exists()]
        except OSError as error:
            raise CheckpointUnavailableError(f"{self.path}: cannot be read ({_first_line(error)})") from error
        yield iter(found)

    def remove(self) -> None:
        try:
            for path in (self.path, self.previous):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointUnavailableError(f"{self.path}: cannot be deleted ({_first_line(error)})") from error


class _RemoteFiles:
    """At an address of pyarrow.fs or fsspec; every operation is tried a few times."""

    def __init__(self, address: str) -> None:
        self.address = address

    def save(self, content: bytes | memoryview) -> None:
        self._try("written", lambda files, path: self._upload(content, files, path))

    @contextlib.contextmanager
    def versions(self) -> Iterator[Iterator[Path]]:
        with tempfile.TemporaryDirectory(prefix="mgnas-") as folder:
            yield self._downloads(Path(folder))

    def remove(self) -> None:
        def remove(files: Any, path: str) -> None:
            for each in (path, _previous(path)):
                if _is_file(files, each):
                    files.delete_file(each)

        self._try("deleted", remove)

    def _downloads(self, folder: Path) -> Iterator[Path]:
        for number, name in enumerate((str, _previous)):
            file = folder / f"{number}.pt"
            if self._try("read", lambda files, path, name=name, file=file: _download(files, name(path), file)):
                yield file

    def _upload(self, content: bytes | memoryview, files: Any, path: str) -> None:
        files.create_dir(path.rpartition("/")[0], recursive=True)
        partial = f"{path}.{os.getpid()}.partial"
        with files.open_output_stream(partial) as target:
            target.write(content)
        if _is_file(files, path):
            files.move(path, _previous(path))
        files.move(partial, path)

    def _try(self, what: str, action: Callable[[Any, str], Any]) -> Any:
        for attempt in range(_TRIES):
            try:
                return action(*_filesystem(self.address))
            except Exception as error:  # Every protocol has errors of its own; what they say is passed on.
                if attempt == _TRIES - 1:
                    reason = f"{self.address}: cannot be {what} ({_first_line(error)})"
                    raise CheckpointUnavailableError(reason) from error
                time.sleep(4**attempt)
        return None


def _filesystem(address: str) -> tuple[Any, str]:
    """pyarrow's file system for an address, else fsspec's, and the path in it."""
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        return FileSystem.from_uri(address)
    except (ArrowInvalid, NotImplementedError):  # A protocol that pyarrow does not know, or was built without.
        import fsspec

        files, path = fsspec.core.url_to_fs(address)
        return PyFileSystem(FSSpecHandler(files)), path


def _download(files: Any, path: str, file: Path) -> bool:
    """Copy it, if it is there."""
    if not _is_file(files, path):
        return False
    with files.open_input_stream(path) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
    return True


def _is_file(files: Any, path: str) -> bool:
    from pyarrow.fs import FileType

    return files.get_file_info(path).type is FileType.File


def _previous(path: str) -> str:
    return f"{path.removesuffix('.pt')}.previous.pt"


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]
