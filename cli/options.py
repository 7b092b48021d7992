"""Option types that several commands share."""

from __future__ import annotations

from typing import Any

import click

from ..models.errors import ConfigError
from ..space.limits import parse_count


class Count(click.ParamType):
    """20000, 20k or 1.5M."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_count(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Accuracy(click.ParamType):
    """0.97 or 97%."""

    name = "accuracy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            accuracy = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            accuracy = -1.0
        if not 0 <= accuracy <= 1:
            self.fail(f"expected a fraction such as 0.97, or 97%, got {value!r}", param, ctx)
        return accuracy
