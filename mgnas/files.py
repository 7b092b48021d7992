"""Reading YAML strictly, and writing files atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError

_MAX_NODES = 100_000


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, with an error for a key that stands twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", mark)
        return super().construct_mapping(node, deep)

    def get_single_data(self) -> Any:
        """The document. It is an error if an alias contains itself, or if aliases unfold to too many values."""
        node = self.get_single_node()
        if node is None:
            return None
        if _unfolded_size(node, {}) > _MAX_NODES:
            problem = f"its aliases unfold to more than {_MAX_NODES:,} values"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return self.construct_document(node)


def _unfolded_size(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Number of nodes of the tree below `node` with all aliases written out.

    Args:
        node: the root of the tree.
        sizes: id of a node -> its size, None while it is being computed.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise yaml.constructor.ConstructorError(None, None, "an alias that holds itself", node.start_mark)
        return size
    sizes[id(node)] = None
    children = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else node.value
    size = 1 + sum(_unfolded_size(child, sizes) for child in children)
    sizes[id(node)] = size
    return size


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """The mapping in a YAML file, read with the safe loader.

    Raises:
        UserError: the file does not exist, cannot be read, is not YAML, or does not contain a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; a YAML file is expected") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        content = yaml.load(text, _UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{path}{where}: not valid YAML ({problem})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of settings (key: value lines), got {short(content)}")
    return content


def write_yaml(path: str | os.PathLike, mapping: Mapping[str, Any]) -> None:
    """Write a mapping as YAML, atomically.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    write_text(path, yaml.safe_dump(dict(mapping), sort_keys=False, default_flow_style=None, width=100))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text in UTF-8, as write_bytes does."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes | memoryview, mode: int = 0o644) -> None:
    """Write a file atomically: write a temporary file in the same folder, then rename it.

    Args:
        path: the file.
        content: its content.
        mode: its permissions.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose a folder that can") from None


def short(value: Any) -> str:
    """A value as text for messages: one line of at most 60 characters."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
