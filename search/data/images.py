"""Images that stay where they are: places in an array, which usually is a memory-mapped file of the cache.

Ten trials on a machine that learn from the same file hold one copy of it, in the operating system's page cache.
"""

from __future__ import annotations

import numpy as np

CHUNK = 256


class ImageDataset:
    """Images with labels; immutable.

    Args:
        images: uint8, m x channels x size x size; not copied.
        labels: int64, n, from 0.
        places: int64, n: which of the m images these are; default: all of them, n = m.
        sums: what `pixel_sums` gives for the m images, if somebody has computed it already.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        places: np.ndarray | None = None,
        sums: np.ndarray | None = None,
    ) -> None:
        self._array, self._places, self._sums = images, places, sums
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """n, channels, size, size."""
        return (len(self), *self._array.shape[1:])

    @property
    def images(self) -> np.ndarray:
        """uint8, n x channels x size x size: a copy of them all at each call, unless made of an array as it is.

        `gather` is for those who can do with a part at a time.
        """
        return self._array if self._places is None else self._array[self._places]

    def gather(self, which: np.ndarray | slice) -> np.ndarray:
        """Copy some images into a new array.

        Args:
            which: integers from 0 to n - 1, in any order, or a slice.

        Returns:
            uint8, len(which) x channels x size x size; writable and contiguous.
        """
        if self._places is not None:
            return self._array[self._places[which]]
        return self._array[which].copy() if isinstance(which, slice) else self._array[which]

    def take(self, indices: np.ndarray) -> ImageDataset:
        """The images at these places, in ascending order of place; no pixel is copied."""
        indices = np.sort(indices)
        places = indices if self._places is None else self._places[indices]
        return ImageDataset(self._array, self.labels[indices], places, self._sums)

    def __add__(self, other: ImageDataset) -> ImageDataset:
        """These images and then the others; pixels are copied only if the two come from different arrays."""
        labels = np.concatenate([self.labels, other.labels])
        if self._array is not other._array:
            return ImageDataset(np.concatenate([self.images, other.images]), labels)
        return ImageDataset(self._array, labels, np.concatenate([self._all_places(), other._all_places()]), self._sums)

    def mean_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (of a sample, n - 1) per channel, of pixels scaled to 0..1.

        Sums of whole numbers, so exact until the last rounding, and the same in whatever order they are added. Images
        from the cache have their sums there: no pixel is read.

        Returns:
            two float64 arrays with one number per channel.
        """
        if self._sums is not None:
            total = self._sums[self._all_places()].sum(axis=0)
        else:
            starts = range(0, len(self), CHUNK)
            total = sum(pixel_sums(self.gather(slice(start, start + CHUNK))).sum(axis=0) for start in starts)
        count = len(self) * self._array.shape[2] * self._array.shape[3]
        # In Python's integers, as int64 overflows in count * squares.
        pairs = [(int(first), int(second)) for first, second in total.T]
        mean = np.array([first / count for first, _ in pairs]) / 255
        variance = [(count * second - first**2) / (count * (count - 1)) for first, second in pairs]
        return mean, np.sqrt(variance) / 255

    def _all_places(self) -> np.ndarray:
        return np.arange(len(self)) if self._places is None else self._places


def pixel_sums(images: np.ndarray) -> np.ndarray:
    """Sum and sum of squares of each image's pixels: uint8 n x channels x h x w -> int64 n x 2 x channels."""
    # float64 holds whole numbers up to 2^53, and is summed much faster than int64.
    pixels = images.reshape(*images.shape[:2], -1).astype(np.float64)
    squares = np.einsum("ncp,ncp->nc", pixels, pixels)
    return np.stack([pixels.sum(axis=2), squares], axis=1).astype(np.int64)
