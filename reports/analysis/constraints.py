"""What a chosen network must keep, as users write it: `max_weights="20k"`, `max_memory="256kB"`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from mgnas.errors import ConfigError

from ...space.limits import parse_bytes, parse_count


@dataclass(frozen=True)
class Constraints:
    """What a network must keep; None: anything.

    Args:
        max_weights: trainable parameters.
        max_macs: multiply-accumulates per image.
        max_memory, max_memory_int8: peak bytes of the activations for one image in float32 and int8.
        min_accuracy: as a fraction; a trial's on the validation images, an int8 network's on its own.
        max_size: bytes of the exported network: safetensors in float32, or the int8 network.
        max_latency: milliseconds for 1 image, on this machine or the meter's device.
        max_latency_32: milliseconds for 32 images.
    """

    max_weights: int | None = None
    max_macs: int | None = None
    max_memory: int | None = None
    max_memory_int8: int | None = None
    min_accuracy: float | None = None
    max_size: int | None = None
    max_latency: float | None = None
    max_latency_32: float | None = None

    @classmethod
    def parse(cls, **limits: Any) -> Constraints:
        """From numbers, or texts with units such as "20k" and "256kB".

        Raises:
            ConfigError: a value is no number of its kind; it names the limit.
        """
        return cls(**{name: _parsed(name, value) for name, value in limits.items() if value is not None})


UNLIMITED = Constraints()

_COUNTS: dict[str, Callable[[Any], int]] = {
    "max_weights": parse_count,
    "max_macs": parse_count,
    "max_memory": parse_bytes,
    "max_memory_int8": parse_bytes,
    "max_size": parse_bytes,
}


def _parsed(name: str, value: Any) -> Any:
    if name in _COUNTS:
        try:
            return _COUNTS[name](value)
        except ConfigError as error:
            raise error.inside(name) from None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(name, f"expected a number, got {value!r}")
    return value
