"""torch's operations on lists of tensors, which a GPU executes in one kernel.

torch has no public names for them. Its own optimizers and its clipping of gradients are built on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target, which may have another type."""
    torch._foreach_copy_(list(targets), list(sources))  # pyright: ignore[reportPrivateImportUsage]


def add_all(first: Sequence[Tensor], second: Sequence[Tensor]) -> Sequence[Tensor]:
    """The sums of pairs, as new tensors."""
    return torch._foreach_add(list(first), list(second))  # pyright: ignore[reportPrivateImportUsage]


def negate_all(tensors: Sequence[Tensor]) -> None:
    """Negate tensors in place."""
    if tensors:
        torch._foreach_neg_(list(tensors))  # pyright: ignore[reportPrivateImportUsage]
