"""How many threads of a CPU a training should use."""

from __future__ import annotations

import torch

from ...models.config import ArchitectureConfig

_MIN_ACTIVATION = 2**17
"""Values of a batch's activation on the finest level from which more than one thread pays.

Below it two threads are hardly faster than one (`benchmarks/training/threads.py`). And they wait for each other after
every operation: beside another program a training of small operations on several threads nearly stands still.
"""


def default_threads(architecture: ArchitectureConfig, batch_size: int, image_size: int) -> int:
    """All threads of PyTorch, or one for a network whose operations are too small to be shared out.

    Args:
        architecture: the network.
        batch_size: images per step.
        image_size: pixels per side.
    """
    finest = -(-image_size // architecture.stem_stride)
    activation = batch_size * architecture.channels[0] * finest**2
    return torch.get_num_threads() if activation >= _MIN_ACTIVATION else 1
