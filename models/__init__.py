"""The architectures: their configs, modules and exact costs. Nothing here knows of searching."""

from typing import TYPE_CHECKING

from .config import ArchitectureConfig
from .cost import cost_by_part, count_macs, count_weights

if TYPE_CHECKING:
    from .build import build_model

__all__ = [
    "ArchitectureConfig",
    "build_model",
    "cost_by_part",
    "count_macs",
    "count_weights",
]


def __getattr__(name: str) -> object:
    # NOTE: Importing torch takes seconds, and configs and costs need no torch. So it is imported for `build_model`
    # only.
    if name == "build_model":
        from .build import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
