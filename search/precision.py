"""In which floating-point type a network trains fastest on a device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16", "float16"]

# A CPU's bfloat16 instructions pay for wide groups only: with few channels per group, or on tiny images, the
# conversions cost what they save. `benchmarks/throughput.py --precision` compares the types on the machine at hand.
_WIDE_GROUP = 64


def autocast_type(precision: Precision, device: torch.device, model: nn.Module) -> torch.dtype | None:
    """The type that convolutions compute in; None for float32 throughout.

    `auto`: on a GPU bfloat16, or float16 on those too old for it; on a CPU bfloat16 if it has instructions for it (AMX
    tiles, AVX512_BF16) and most of the network's convolution weights are in groups of at least 64 channels, else
    float32.
    """
    if precision != "auto":
        return None if precision == "float32" else getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if _has_bfloat16() and _mostly_wide(model) else None


def _has_bfloat16() -> bool:
    # NOTE: torch has no public question for a CPU's instructions; both of these exist since 2.4.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _mostly_wide(model: nn.Module) -> bool:
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    wide = sum(weight.numel() for weight in weights if weight.shape[1] >= _WIDE_GROUP)
    return 2 * wide > sum(weight.numel() for weight in weights)
