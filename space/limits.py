"""Budgets of weights, MACs, memory and latency."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mgnas.errors import ConfigError
from mgnas.settings import build, settings

from .candidate import Candidate
from .latency import LatencyModel


def parse_count(value: Any) -> int:
    """The number that a user's value means: a whole number, or one with a suffix (20000, "20k", "1.5M").

    Raises:
        ConfigError: the value is something else, below 1 or above 10^18.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?)\s*", str(value)) if not isinstance(value, bool) else None
    number = Decimal(match[1]).scaleb({"": 0, "k": 3, "m": 6, "g": 9}[match[2].lower()]) if match else Decimal(0)
    if number < 1 or number != int(number) or number > 10**18:
        raise ConfigError("", f"expected a whole number such as 20000, 20k or 1.5M, got {value!r}")
    return int(number)


def parse_bytes(value: Any) -> int:
    """The number of bytes that a user's value means: a count, or one with a unit (256kB, 1.5MB, 64KiB, 1MiB).

    kB and MB are powers of 1000, KiB and MiB of 1024.

    Raises:
        ConfigError: the value is something else, below 1 or above 10^18.
    """
    text = str(value).strip()
    binary = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgG])i[bB]?", text)
    decimal = re.fullmatch(r"(\d+(?:\.\d+)?\s*[kKmMgG]?)[bB]?", text)
    try:
        if binary:
            number = Decimal(binary[1]) * 1024 ** ("kmg".index(binary[2].lower()) + 1)
            return parse_count(int(number) if number == int(number) else value)
        return parse_count(decimal[1] if decimal and not isinstance(value, bool) else value)
    except ConfigError:
        raise ConfigError("", f"expected bytes such as 262144, 256kB or 256KiB, got {value!r}") from None


_Count = Annotated[int | None, BeforeValidator(lambda value: None if value is None else parse_count(value))]
_Bytes = Annotated[int | None, BeforeValidator(lambda value: None if value is None else parse_bytes(value))]
_Model = Annotated[
    LatencyModel | None, BeforeValidator(lambda value: build(LatencyModel, value) if isinstance(value, dict) else value)
]


class LimitError(ConfigError):
    """A valid network that breaks a budget.

    Args:
        limit: the name of the limit.
        amount: what the network has of it.
        unit: of the amount.
        problem: the rest of the message, after amount and unit.
    """

    def __init__(self, limit: str, amount: float, unit: str, problem: str) -> None:
        self.limit, self.amount, self.unit = limit, amount, unit
        super().__init__(f"limits.{limit}", f"{amount:,} {unit} are {problem}")


@settings
class Limits:
    """Budgets that every candidate keeps. They are checked before anything is trained."""

    max_weights: _Count = None
    """Maximum number of trainable parameters: 30000, 30k, 1.5M."""
    min_weights: _Count = None
    """Minimum number of trainable parameters."""
    max_macs: _Count = None
    """Maximum number of multiply-accumulates per image: 20M, 1G."""

    max_activation_memory: _Bytes = None
    """Maximum number of bytes of the activations that exist at the same time, for one image in float32: 256kB, 1MiB."""
    max_activation_memory_int8: _Bytes = None
    """The same in int8."""
    max_flash: _Bytes = None
    """Maximum number of bytes of the numbers that a trained network stores in float32: 1MB."""
    max_flash_int8: _Bytes = None
    """The same in int8."""
    max_latency: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """Maximum number of milliseconds for one image, by latency_model."""
    latency_model: _Model = None
    """How a device's latency follows from the network. `mgnas latency RUN --device NAME` prints it."""

    def __post_init__(self) -> None:
        if self.max_latency is not None and self.latency_model is None:
            raise ConfigError("max_latency", "needs latency_model, which `mgnas latency RUN` measures and prints")

    @property
    def needs_networks(self) -> bool:
        """Whether there are limits beside those of weights and MACs."""
        return any(getattr(self, name) is not None for name in {*_AMOUNTS, "max_latency"} - _COUNTED)

    def check(self, candidate: Candidate) -> None:
        """Refuse a candidate that breaks a limit.

        Raises:
            LimitError: the candidate breaks a limit, which the message names.
        """
        for name, (amount, unit) in _AMOUNTS.items():
            limit = getattr(self, name)
            if limit is None:
                continue
            value = amount(candidate)
            if name.startswith("min_") and value < limit:
                raise LimitError(name, value, unit, f"fewer than {limit:,}")
            if name.startswith("max_") and value > limit:
                raise LimitError(name, value, unit, f"more than {limit:,}")
        if self.max_latency is not None and self.latency_model is not None:
            latency = round(self.latency_model.milliseconds(candidate.cost), 4)
            if latency > self.max_latency:
                raise LimitError("max_latency", latency, "milliseconds", f"more than {self.max_latency:,g}")


_AMOUNTS: dict[str, tuple[Callable[[Candidate], int], str]] = {
    "max_weights": (lambda candidate: candidate.weights, "weights"),
    "min_weights": (lambda candidate: candidate.weights, "weights"),
    "max_macs": (lambda candidate: candidate.macs, "MACs"),
    "max_activation_memory": (lambda candidate: candidate.activation_memory(), "bytes of activations"),
    "max_activation_memory_int8": (lambda candidate: candidate.activation_memory(int8=True), "bytes of activations"),
    "max_flash": (lambda candidate: candidate.flash_memory(), "bytes of flash memory"),
    "max_flash_int8": (lambda candidate: candidate.flash_memory(int8=True), "bytes of flash memory"),
}
"""Name of a limit -> what it limits, and the unit of that."""

_COUNTED = {"max_weights", "min_weights", "max_macs"}
"""Limits of what is counted without regard to the device."""
