"""From YAML files and plain mappings to validated dataclasses, with one-line errors.

Every settings class of mgnas is a frozen pydantic dataclass made with `@settings`; a mapping from a user's file
becomes one through `build`, which turns pydantic's report into a single `ConfigError` that names the key.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
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
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    path = [part for part in first["loc"] if isinstance(part, int) or str(part).isidentifier()]
    if isinstance(cause, ConfigError):
        return cause.inside(".".join(map(str, path)))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        owner = _owner(cls, first["loc"][:-1])
        known = [field.name for field in fields(owner)] if is_dataclass(owner) else []
        return unknown_key(str(first["loc"][-1]), known).inside(".".join(map(str, path[:-1])))
    key = ".".join(map(str, path))
    if first["type"] in ("missing", "missing_keyword_only_argument"):
        return ConfigError(key, "is required and missing")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return ConfigError(key, f"{message[0].lower()}{message[1:]}, got {_short(first['input'])}")


def _owner(cls: type, path: tuple) -> type:
    """The settings class that the nested mapping at `path` belongs to."""
    for part in path:
        annotation = next((field.type for field in fields(cls) if field.name == part), None)
        if not is_dataclass(annotation):
            return object
        cls = annotation
    return cls


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."


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
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
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
    """Write a text file whole or not at all: into a temporary file beside it, then renamed.

    Raises:
        UserError: the folder is missing or cannot be written.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose a folder that can") from None
