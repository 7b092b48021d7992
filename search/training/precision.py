"""In which floating-point type a network trains fastest on a device."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]

# `benchmarks/training/throughput.py --precision` compares the types on the machine at hand.
_WORTH_HALVING = 2**18


def autocast_type(precision: Precision, device: torch.device, activation: int) -> torch.dtype | None:
    """The type that convolutions compute in; None for float32 throughout.

    `auto`: on a GPU bfloat16, or float16 on those too old for it. On a CPU with instructions for bfloat16 (AMX tiles,
    AVX512_BF16) training is bound by memory, which bfloat16 needs half of; so it is taken where an activation has
    2^18 values or more, a MiB of float32, and no longer stays in a core's cache. Below, conversions cost what it saves.

    Args:
        precision: what is asked for.
        device: where to train.
        activation: values of one activation of the finest level, batch size x channels x height x width.
    """
    if precision != "auto":
        return None if precision == "float32" else getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if _has_bfloat16() and activation >= _WORTH_HALVING else None


def _has_bfloat16() -> bool:
    # NOTE: torch has no public question for a CPU's instructions; both of these exist since 2.4.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
