"""The architectures: their configs, modules and exact costs. Pure PyTorch; knows nothing of searching."""

from .config import ArchitectureConfig
from .cost import cost_by_part, count_macs, count_weights

__all__ = [
    "ArchitectureConfig",
    "build_model",
    "cost_by_part",
    "count_macs",
    "count_weights",
]


def __getattr__(name: str):
    # NOTE: Importing torch takes seconds; configs and costs do without it, so only `build_model` imports it.
    if name == "build_model":
        from .build import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
