"""The peak of an inference's activations, from a trace of what PyTorch executes.

A tensor exists from the operation that computes it to the last one that reads it. Operations of `IN_PLACE` write into
the memory of an input of the same size, if nothing reads it later. These are the rules of `models/inference_memory.py`,
whose closed form the tests compare with this trace.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode  # Private, but the documented way to see every operation.

IN_PLACE = {"relu_", "add_", "mul_", "add", "sub", "mul", "native_batch_norm", "_native_batch_norm_legit_no_training"}


class Recorder(TorchDispatchMode):
    """Notes each operation on activations: its name, and the storages of what it reads and writes.

    Storages are kept, so that no address is used twice.
    """

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.values: dict[int, int] = {}
        self.operations: list[tuple[str, list[int], list[int]]] = []
        self._kept = []
        self._storage(image)

    def _storage(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        self._kept.append(storage)
        self.values.setdefault(storage._cdata, storage.nbytes() // tensor.element_size())  # PyTorch's only identity.
        return storage._cdata

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # pyright: ignore[reportIncompatibleMethodOverride] - torch leaves it untyped
        reads = [t.untyped_storage()._cdata for t in args if isinstance(t, torch.Tensor)]
        reads = [storage for storage in reads if storage in self.values]  # not weights
        result = function(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        if reads:  # Otherwise weights are negated or scaled.
            written = [self._storage(t) for t in results if t.numel()]
            self.operations.append((function.overloadpacket.__name__, reads, written))
        return result


def traced_peak(model: nn.Module, in_channels: int, image_size: int) -> int:
    """The largest number of values in storages that exist at the same time, in an evaluation of one image.

    Args:
        model: in evaluation mode; takes float images, normalised already.
        in_channels, image_size: of the image.
    """
    image = torch.zeros(1, in_channels, image_size, image_size)
    with torch.no_grad(), Recorder(image) as recorder:
        model(image)
    last: dict[int, int] = {}
    for index, (_, reads, written) in enumerate(recorder.operations):
        last |= dict.fromkeys([*reads, *written], index)
    alive, peak = {image.untyped_storage()._cdata}, 0
    for index, (name, reads, written) in enumerate(recorder.operations):
        for storage in set(written) - alive:
            reused = [r for r in reads if last[r] == index and recorder.values[r] == recorder.values[storage]]
            if name in IN_PLACE and reused:
                alive.remove(reused[0])
            alive.add(storage)
        peak = max(peak, sum(recorder.values[storage] for storage in alive))
        alive = {storage for storage in alive if last[storage] > index}
    return peak
