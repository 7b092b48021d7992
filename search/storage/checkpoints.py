"""Checkpoints of running trials: the newest and the previous one, on a disk or at an address of pyarrow or fsspec.

A checkpoint is written under another name and then renamed, so a process that is killed leaves a whole one. If it is
damaged all the same (by the disk, or a power failure), the previous one is an epoch older.
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

from mgnas.errors import UserError, first_line

_TRIES = 3


class CheckpointUnavailableError(RuntimeError):
    """A checkpoint cannot be written, read or deleted; the trial is not at fault."""


class Checkpoint:
    """The checkpoint of one trial.

    Args:
        address: a file, or `protocol://...` in the form of pyarrow or fsspec.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._files = _RemoteFiles(address) if "://" in address else _LocalFiles(Path(address))

    @property
    def previous(self) -> str:
        """File or address of the previous checkpoint."""
        return _previous(self.address)

    def save(self, content: bytes | memoryview) -> None:
        """Store a new checkpoint; the newest so far becomes the previous one.

        Raises:
            CheckpointUnavailableError: the storage cannot be written, or is full.
        """
        self._files.save(content)

    @contextlib.contextmanager
    def versions(self) -> Iterator[Iterator[Path]]:
        """A context with the newest and the previous checkpoint, if they exist, as local files in this order.

        Raises:
            CheckpointUnavailableError: the storage cannot be read; on entering, or when the next file is asked for.
        """
        with self._files.versions() as paths:
            yield paths

    def remove(self) -> None:
        """Delete both checkpoints, if they exist.

        Raises:
            CheckpointUnavailableError: the storage cannot be reached.
        """
        self._files.remove()


def check_storage(address: str) -> None:
    """Write and delete a file in the folder or at the address that is to hold checkpoints.

    Raises:
        UserError: that fails.
    """
    probe = Checkpoint(f"{address.rstrip('/')}/.mgnas-{os.getpid()}-{time.time_ns()}.pt")
    try:
        if "://" not in address:
            Path(address).mkdir(parents=True, exist_ok=True)
        probe.save(b"mgnas")
        probe.remove()
    except (CheckpointUnavailableError, OSError) as error:
        raise UserError(f"resources.storage: {address} cannot be used ({_reason(error)})") from None


class _LocalFiles:
    """Checkpoints on a disk."""

    def __init__(self, path: Path) -> None:
        self.path, self.previous = path, Path(_previous(str(path)))

    def save(self, content: bytes | memoryview) -> None:
        # Each process has its own temporary file: the worker of a killed search may still be at its last epoch.
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
            raise CheckpointUnavailableError(f"{self.path}: cannot be written ({_reason(error)})") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def versions(self) -> Iterator[Iterator[Path]]:
        try:
            paths = [path for path in (self.path, self.previous) if path.exists()]
        except OSError as error:
            raise CheckpointUnavailableError(f"{self.path}: cannot be read ({_reason(error)})") from error
        yield iter(paths)

    def remove(self) -> None:
        try:
            for path in (self.path, self.previous):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointUnavailableError(f"{self.path}: cannot be deleted ({_reason(error)})") from error


class _RemoteFiles:
    """Checkpoints at an address of pyarrow or fsspec; every operation is tried a few times."""

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
            for version in (path, _previous(path)):
                if _is_file(files, version):
                    files.delete_file(version)

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

    def _try(self, participle: str, action: Callable[[Any, str], Any]) -> Any:
        for attempt in range(_TRIES):
            try:
                return action(*_filesystem(self.address))
            except Exception as error:  # Every protocol has errors of its own; their messages are passed on.
                if attempt == _TRIES - 1:
                    problem = f"{self.address}: cannot be {participle} ({_reason(error)})"
                    raise CheckpointUnavailableError(problem) from error
                time.sleep(4**attempt)
        return None


def _filesystem(address: str) -> tuple[Any, str]:
    """The file system of an address (pyarrow's, else fsspec's), and the path in it."""
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        return FileSystem.from_uri(address)
    except (ArrowInvalid, NotImplementedError):  # A protocol that pyarrow does not know, or was built without.
        import fsspec

        files, path = fsspec.core.url_to_fs(address)
        return PyFileSystem(FSSpecHandler(files)), path


def _download(files: Any, path: str, file: Path) -> bool:
    """Copy a file if it exists; whether it does."""
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


def _reason(error: BaseException) -> str:
    """An error's first line; for one of the operating system without the path, which the message has already."""
    return first_line(getattr(error, "strerror", None) or error)
