"""Images as indices into an array, which usually is a memory-mapped file of the cache.

All trials on a machine share one copy of the file, in the operating system's page cache.
"""

from __future__ import annotations

import numpy as np

CHUNK = 256


class ImageDataset:
    """Images with labels, immutable.

    Args:
        images: uint8, m x channels x size x size. They are not copied.
        labels: int64, n, counted from 0.
        indices: int64, n: the indices of this data set among the m images. Default: all images, n = m.
        sums: the `pixel_sums` of the m images, if they are already known.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        indices: np.ndarray | None = None,
        sums: np.ndarray | None = None,
    ) -> None:
        self._array, self._indices, self._sums = images, indices, sums
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """n, channels, size, size."""
        _, channels, height, width = self._array.shape
        return len(self), channels, height, width

    @property
    def images(self) -> np.ndarray:
        """All images: uint8, n x channels x size x size.

        Each access copies them, unless the data set was made without `indices`. `gather` copies some of them.
        """
        return self._array if self._indices is None else self._array[self._indices]

    def gather(self, indices: np.ndarray | slice) -> np.ndarray:
        """Copy some images into a new array.

        Args:
            indices: integers from 0 to n - 1, in any order, or a slice.

        Returns:
            uint8, len(indices) x channels x size x size, writable and contiguous.
        """
        if self._indices is not None:
            return self._array[self._indices[indices]]
        return self._array[indices].copy() if isinstance(indices, slice) else self._array[indices]

    def take(self, indices: np.ndarray) -> ImageDataset:
        """The images with these indices, in ascending order. No pixel is copied."""
        indices = np.sort(indices)
        labels = self.labels[indices]
        return ImageDataset(
            self._array, labels, indices if self._indices is None else self._indices[indices], self._sums
        )

    def __add__(self, other: ImageDataset) -> ImageDataset:
        """These images, followed by the others. Pixels are copied only if the two come from different arrays."""
        labels = np.concatenate([self.labels, other.labels])
        if self._array is not other._array:
            return ImageDataset(np.concatenate([self.images, other.images]), labels)
        indices = np.concatenate([self._all_indices(), other._all_indices()])
        return ImageDataset(self._array, labels, indices, self._sums)

    def mean_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (of a sample, n - 1) of each channel, for pixels scaled to 0..1.

        The sums are sums of integers, so they are exact, and the order of the images does not matter. The cache stores
        the sums of its images, so that no pixel is read.

        Returns:
            Two float64 arrays with one number per channel.
        """
        if self._sums is not None:
            sums = self._sums[self._all_indices()]
        else:
            starts = range(0, len(self), CHUNK)
            sums = np.concatenate([pixel_sums(self.gather(slice(start, start + CHUNK))) for start in starts])
        count = len(self) * self._array.shape[2] * self._array.shape[3]
        # Python's integers, because int64 would overflow in count * second.
        pairs = [(int(first), int(second)) for first, second in sums.sum(axis=0).T]
        mean = np.array([first / count for first, _ in pairs]) / 255
        variance = [(count * second - first**2) / (count * (count - 1)) for first, second in pairs]
        return mean, np.sqrt(variance) / 255

    def largest_class(self) -> tuple[int, float]:
        """The label of the class with the most images, and its share of all images."""
        counts = np.bincount(self.labels)
        return int(counts.argmax()), float(counts.max() / len(self))

    def all_equal(self) -> bool:
        """Whether all images are the same, pixel by pixel."""
        if self._sums is not None:
            # Images with different sums differ, so pixels are seldom read.
            sums = self._sums[self._all_indices()]
            if (sums != sums[0]).any():
                return False
        first = self.gather(slice(0, 1))
        starts = range(0, len(self), CHUNK)
        return all((self.gather(slice(start, start + CHUNK)) == first).all() for start in starts)

    def _all_indices(self) -> np.ndarray:
        return np.arange(len(self)) if self._indices is None else self._indices


def pixel_sums(images: np.ndarray) -> np.ndarray:
    """Sum and sum of squares of each image's pixels: uint8, n x channels x h x w -> int64, n x 2 x channels."""
    # float64 is exact for integers up to 2^53, and its sums are much faster than those of int64.
    pixels = images.reshape(*images.shape[:2], -1).astype(np.float64)
    squares = np.einsum("ncp,ncp->nc", pixels, pixels)
    return np.stack([pixels.sum(axis=2), squares], axis=1).astype(np.int64)
