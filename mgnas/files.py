"""Files: YAML read strictly, and everything written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError

_MOST_NODES = 100_000


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice in a mapping is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", mark)
        return super().construct_mapping(node, deep)

    def get_single_data(self) -> Any:
        """The document; one whose aliases unfold to itself, or to more than anybody writes by hand, is an error."""
        node = self.get_single_node()
        if node is None:
            return None
        if _unfolded(node, {}) > _MOST_NODES:
            problem = f"its aliases unfold to more than {_MOST_NODES:,} values"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return self.construct_document(node)


def _unfolded(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many nodes the tree below `node` has if aliases are written out; `known` by the nodes' ids."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.constructor.ConstructorError(None, None, "an alias that holds itself", node.start_mark)
        return count
    known[id(node)] = None
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    known[id(node)] = 1 + sum(_unfolded(part, known) for part in parts)
    return known[id(node)]


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """The mapping that a YAML file holds, read with the safe loader.

    Raises:
        UserError: the file is missing, unreadable, not YAML, or holds something else than a mapping.
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
        UserError: the folder is missing or cannot be written.
    """
    write_text(path, yaml.safe_dump(dict(mapping), sort_keys=False, default_flow_style=None, width=100))


def write_text(path: str | os.PathLike, text: str) -> None:
    """As write_bytes, of a text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes | memoryview, mode: int = 0o644) -> None:
    """Write a file whole or not at all: into a temporary file beside it, then renamed. `mode`: its permissions.

    Raises:
        UserError: the folder is missing or cannot be written.
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
    """A value as text of at most 60 characters on one line, for messages."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
