"""From YAML files and plain mappings to validated dataclasses, with one-line errors.

Every settings class of mgnas is a frozen pydantic dataclass made with `@settings`; a mapping from a user's file
becomes one through `build`, which turns pydantic's report into a single `ConfigError` that names the key.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .errors import ConfigError, UserError

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Decorator: a frozen, keyword-only dataclass that refuses unknown keys and silently converted types."""
    return dataclass(cls, frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))


def build(cls: type[T], mapping: Any, prefix: str = "", file: str | None = None) -> T:
    """Make `cls` from a user's mapping.

    Args:
        cls: a class made with `@settings`.
        mapping: keys and values as they stood in the file.
        prefix: dotted path of the mapping inside the file.
        file: the file's name, for the message.

    Raises:
        ConfigError: not a mapping, an unknown or missing key, a wrong type or value; the message names the key.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(prefix, f"expected a mapping of settings, got {_short(mapping)}", file)
    try:
        return cls(**{str(key): value for key, value in mapping.items()})
    except ValidationError as error:
        raise _config_error(error, cls).inside(prefix, file) from None


def check_field(cls: type, name: str, value: Any, prefix: str = "") -> None:
    """Check one field's value by itself, before the rest of the mapping is known.

    Raises:
        ConfigError: the value has the wrong type or range.
    """
    adapter = TypeAdapter(get_type_hints(cls, include_extras=True)[name], config=ConfigDict(strict=True))
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise _config_error(error, cls).inside(name).inside(prefix) from None


def unknown_key(key: str, known: list[str]) -> ConfigError:
    """The error for a key that nothing reads, with the nearest known one."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
    return ConfigError(key, f"unknown key; {hint}")


def _config_error(error: ValidationError, cls: type) -> ConfigError:
    # An unknown key first: it is often a required one misspelt.
    unknown = [found for found in error.errors() if found["type"] in ("unexpected_keyword_argument", "extra_forbidden")]
    if unknown:
        return unknown_key(str(unknown[0]["loc"][-1]), [field.name for field in fields(cls)])
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    # Behind the field's name pydantic puts list indices, and the names of types where it tried several.
    key = ".".join(str(part) for i, part in enumerate(first["loc"]) if i == 0 or isinstance(part, int))
    if isinstance(cause, ConfigError):
        return cause.inside(key)
    if first["type"] in ("missing", "missing_keyword_only_argument"):
        return ConfigError(key, "is required and missing")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return ConfigError(
        key, f"{message[0].lower()}{message[1:]}, got {_short(first['input'])}{_yaml_hint(first['input'])}"
    )


def _yaml_hint(value: Any) -> str:
    """YAML 1.1 reads 5e-4 as text, which surprises everybody once."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        mantissa, exponent = re.split("[eE]", value)
        return f"; YAML takes that for text, write {mantissa}.0e{exponent if exponent[0] in '+-' else '+' + exponent}"
    return ""


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."


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
        raise UserError(f"{path}: expected a mapping of settings (key: value lines), got {_short(content)}")
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
