"""Images where a device gets at them quickest."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.images import ImageDataset
from .memory import is_out_of_memory

_CHUNK = 4096
_SHARE_OF_FREE_MEMORY = 0.25


class DeviceImages:
    """uint8 images and their labels for one device.

    On a GPU that has room the whole set lies in its memory; else each batch comes out of the memory-mapped file,
    pinned on its way to a GPU. On a CPU no copy of the set is made, so that trials share the file's pages.

    Args:
        part: the images.
        device: where batches are wanted.
    """

    def __init__(self, part: ImageDataset, device: torch.device) -> None:
        self._part, self._device = part, device
        self.labels = torch.from_numpy(part.labels).to(device)
        self._all = _on_device(part, device) if device.type == "cuda" and _fits(part, device) else None

    def __len__(self) -> int:
        return len(self._part)

    def images(self, which: Tensor | slice) -> Tensor:
        """uint8 n x c x h x w on the device, of the images at these places (int64 on the CPU, or a slice)."""
        if self._all is not None:
            return self._all[which if isinstance(which, slice) else which.to(self._device)]
        batch = torch.from_numpy(self._part.gather(which if isinstance(which, slice) else which.numpy()))
        if self._device.type != "cuda":
            return batch
        return batch.pin_memory().to(self._device, non_blocking=True)


def _fits(part: ImageDataset, device: torch.device) -> bool:
    free, _ = torch.cuda.mem_get_info(device)
    n, channels, height, width = part.shape
    return n * channels * height * width < _SHARE_OF_FREE_MEMORY * free


def _on_device(part: ImageDataset, device: torch.device) -> Tensor | None:
    """All images; None if another process has taken the room since it was looked for."""
    try:
        images = torch.empty(part.shape, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    for start in range(0, len(part), _CHUNK):
        images[start : start + _CHUNK] = torch.from_numpy(part.gather(slice(start, start + _CHUNK)))
    return images
