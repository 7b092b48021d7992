"""Images in the memory from which a device reads them fastest."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.images import ImageDataset
from .memory import is_out_of_memory

_CHUNK = 4096
_SHARE_OF_FREE_MEMORY = 0.25


class DeviceImages:
    """uint8 images and their labels for one device.

    If all images fit into a GPU's memory they are copied there. Otherwise each batch is read from the memory-mapped
    file and, for a GPU, goes through pinned memory. On a CPU no copy of all images is made: trials share the file's
    pages.

    Args:
        images: the images.
        device: the device that needs them.
    """

    def __init__(self, images: ImageDataset, device: torch.device) -> None:
        self._images, self._device = images, device
        self.labels = torch.from_numpy(images.labels).to(device)
        self.resident = _copied(images, device) if device.type == "cuda" and _fits(images, device) else None
        """All images on the device, n x c x h x w; None if batches are read from the file."""

    def __len__(self) -> int:
        return len(self._images)

    def gather(self, indices: Tensor | slice) -> Tensor:
        """The images with these indices: uint8, n x c x h x w, on the device.

        Args:
            indices: int64 on the CPU, or a slice.
        """
        if self.resident is not None:
            return self.resident[indices if isinstance(indices, slice) else indices.to(self._device)]
        batch = torch.from_numpy(self._images.gather(indices if isinstance(indices, slice) else indices.numpy()))
        if self._device.type != "cuda":
            return batch
        return batch.pin_memory().to(self._device, non_blocking=True)


class Normalisation:
    """Subtracts the mean of each channel and divides by its standard deviation.

    Args:
        images: whose mean and standard deviation.
        device: the device of the images to normalise.
    """

    def __init__(self, images: ImageDataset, device: torch.device) -> None:
        mean, std = (torch.from_numpy(values).float().reshape(1, -1, 1, 1) for values in images.mean_std())
        self.mean, self.std = mean.to(device), std.to(device).clamp_min_(1e-3)
        self._mean, self._std = 255 * self.mean, 255 * self.std

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 n x c x h x w -> float, zero mean and unit variance per channel, channels_last."""
        return images.to(torch.float32, memory_format=torch.channels_last).sub_(self._mean).div_(self._std)

    def to_dict(self) -> dict[str, list[float]]:
        """Mean and standard deviation per channel, for pixels scaled to 0..1."""
        return {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}


def _fits(images: ImageDataset, device: torch.device) -> bool:
    free, _ = torch.cuda.mem_get_info(device)
    n, channels, height, width = images.shape
    return n * channels * height * width < _SHARE_OF_FREE_MEMORY * free


def _copied(images: ImageDataset, device: torch.device) -> Tensor | None:
    """All images on the device; None if another process has taken the memory since `_fits`."""
    try:
        copy = torch.empty(images.shape, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    for start in range(0, len(images), _CHUNK):
        copy[start : start + _CHUNK] = torch.from_numpy(images.gather(slice(start, start + _CHUNK)))
    return copy
