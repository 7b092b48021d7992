"""Reading YAML and JSON strictly and within limits, and writing files atomically."""

from __future__ import annotations

import gzip
import json
import os
import secrets
import zlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError

_MAX_YAML_BYTES = 1_000_000
_MAX_JSON_BYTES = 64_000_000
_MAX_NODES = 100_000
_MAX_DIGITS = 40
_MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, with an error for a key that stands twice in a mapping.

    A key of a mapping stands before the same key of one that `<<` merges into it.
    """

    def get_single_data(self) -> Any:
        """The document. It is an error if an alias contains itself, or if aliases unfold to too many values."""
        node = self.get_single_node()
        if node is None:
            return None
        if _unfolded_size(node, {}) > _MAX_NODES:
            problem = f"its aliases unfold to more than {_MAX_NODES:,} values"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        # Before anything is constructed, because merging adds the keys of other mappings to a node.
        self._check_keys(node, set())
        return self.construct_document(node)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the pairs that `<<` merges in before the mapping's own; of equal keys the first mapping's counts.

        PyYAML's own method gives a merged key another value than YAML says if the merged mapping overrides it itself.
        """
        own, sources = [], []
        for key_node, value in node.value:
            if key_node.tag == _MERGE:
                sources += value.value if isinstance(value, yaml.SequenceNode) else [value]
            else:
                own.append((key_node, value))
        keys, merged = {self.construct_object(key_node, deep=True) for key_node, _ in own}, []
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                problem = f"<< merges a mapping or a list of mappings, not a {source.id}"
                raise yaml.constructor.ConstructorError(None, None, problem, source.start_mark)
            self.flatten_mapping(source)
            for key_node, value in source.value:
                key = self.construct_object(key_node, deep=True)
                if key not in keys:
                    keys.add(key)
                    merged.append((key_node, value))
        node.value = merged + own

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number. One of thousands of digits could be neither computed in reasonable time nor shown."""
        if len(node.value) > _MAX_DIGITS:
            problem = f"a number of more than {_MAX_DIGITS} characters"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        construct = self.construct_yaml_int if node.tag.endswith("int") else self.construct_yaml_float
        return construct(node)

    def _check_keys(self, node: yaml.Node, checked: set[int]) -> None:
        if isinstance(node, yaml.ScalarNode) or id(node) in checked:
            return
        checked.add(id(node))
        children = node.value
        if isinstance(node, yaml.MappingNode):
            children = [value for _, value in node.value]
            self._check_own_keys(node)
        for child in children:
            self._check_keys(child, checked)

    def _check_own_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                key, hint = "<<", "; merge several mappings with <<: [*one, *other]"
            else:
                key, hint = self.construct_object(key_node, deep=True), ""
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is a word or number", key_node.start_mark)
            if key in seen:
                problem = f"the key {key!r} stands twice{hint}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)


for _kind in ("int", "float"):
    _UniqueKeyLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _UniqueKeyLoader.construct_number)


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
        text = read_within(path, _MAX_YAML_BYTES).decode()
    except FileTooLargeError as error:
        raise UserError(f"{path}: {error}; a file of settings is much smaller") from None
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


class FileTooLargeError(ValueError):
    """A file has more bytes than is read of a file of its kind."""


def read_within(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a file; that of a gzip file (.gz) unpacked.

    Raises:
        FileTooLargeError: it has more than `limit` bytes. No more than that is unpacked.
        ValueError: the gzip file is damaged.
        OSError: it cannot be read.
    """
    try:
        with gzip.open(path) if Path(path).suffix == ".gz" else Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except (EOFError, zlib.error) as error:
        raise ValueError(str(error)) from None
    if len(content) > limit:
        raise FileTooLargeError(f"holds more than {limit / 1e6:g} MB")
    return content


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file, which may be a gzip file.

    Raises:
        FileTooLargeError: it holds more than 64 MB.
        ValueError: it is not JSON in UTF-8, or is nested too deeply.
        OSError: the file cannot be read.
    """
    return parse_json(read_within(path, _MAX_JSON_BYTES))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON in UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_yaml(path: str | os.PathLike, mapping: Mapping[str, Any]) -> None:
    """Write a mapping as YAML, atomically.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    write_text(path, yaml.safe_dump(dict(mapping), sort_keys=False, default_flow_style=None, width=100))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text in UTF-8, as write_bytes does."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes | memoryview, mode: int = 0o666) -> None:
    """Write a file atomically: write a temporary file in the same folder, then rename it.

    Args:
        path: the file.
        content: its content.
        mode: its permissions, from which the process' umask takes some away.

    Raises:
        UserError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    try:
        # Unlike tempfile's, this file gets its permissions when it is made, so the umask counts.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose a folder that can") from None


def short(value: Any) -> str:
    """A value as text for messages: one line of at most 60 characters."""
    try:
        text = repr(value).replace("\n", " ")
    except ValueError:  # Python shows no number of thousands of digits.
        return "a value that is too long to show"
    return text if len(text) <= 60 else text[:57] + "..."
