"""The floating-point type in which a network trains fastest on a device."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]

_MIN_BFLOAT16_ACTIVATION = 2**18
"""Values of an activation from which bfloat16 pays on a CPU. They are 1 MiB in float32, more than a core's cache holds.

`benchmarks/training/throughput.py --precision` compares the types on the machine at hand.
"""


def autocast_type(precision: Precision, device: torch.device, activation: int) -> torch.dtype | None:
    """The type in which convolutions compute; None for float32 throughout.

    `auto` on a GPU is bfloat16, or float16 if the GPU is too old for bfloat16. On a CPU with instructions for bfloat16
    (AMX tiles, AVX512_BF16) it is bfloat16 for large activations: training is bound by memory, and bfloat16 needs half
    of it. For small activations the conversions cost what bfloat16 saves, so `auto` is float32.

    Args:
        precision: the user's setting.
        device: the device to train on.
        activation: number of values of an activation of the finest level: batch size x channels x height x width.
    """
    if precision != "auto":
        return None if precision == "float32" else getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if _has_bfloat16() and activation >= _MIN_BFLOAT16_ACTIVATION else None


def _has_bfloat16() -> bool:
    # NOTE: Private, because torch has no public function for a CPU's instructions. Both exist since torch 2.4.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
