"""From YAML files and plain mappings to validated dataclasses, with one-line errors.

Every settings class of mgnas is a frozen pydantic dataclass made with `@settings`; a mapping from a user's file
becomes one through `build`, which turns pydantic's report into a single `ConfigError` that names the key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, dataclass_transform, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .errors import ConfigError
from .files import short

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
        raise ConfigError(prefix, f"expected a mapping of settings, got {short(mapping)}", file)
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
        key, f"{message[0].lower()}{message[1:]}, got {short(first['input'])}{_yaml_hint(first['input'])}"
    )


def _yaml_hint(value: Any) -> str:
    """YAML 1.1 reads 5e-4 as text, which surprises everybody once."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        mantissa, exponent = re.split("[eE]", value)
        return f"; YAML takes that for text, write {mantissa}.0e{exponent if exponent[0] in '+-' else '+' + exponent}"
    return ""
