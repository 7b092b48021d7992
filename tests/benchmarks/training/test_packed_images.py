"""benchmarks/training/packed_images.py: parts are joined to the same images."""

import numpy as np
import packed_images
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mgnas.search.data.images import ImageDataset


@pytest.fixture
def images():
    """23 training and 12 test images of 3 x 5 x 4 pixels."""
    rng = np.random.default_rng(0)

    def split(count: int) -> ImageDataset:
        return ImageDataset(rng.integers(0, 256, (count, 3, 5, 4), dtype=np.uint8), rng.integers(0, 10, count))

    return {"train": split(23), "test": split(12)}


@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 5), st.integers(1, 5))))
def test_every_image_survives(pixels):
    assert np.array_equal(packed_images.decoded(packed_images.encoded(pixels)), pixels)


def test_a_plain_area_has_differences_of_zero():
    """Grey 200 everywhere: only the first pixel of the green plane differs from its neighbours, which are 0."""
    differences = packed_images.encoded(np.full((1, 3, 4, 4), 200, np.uint8))
    assert differences[0, 0, 0, 0] == 200
    assert np.count_nonzero(differences) == 1


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_are_joined_in_their_order(images, parts, tmp_path):
    assert len(packed_images.pack(images, tmp_path, parts)) == parts
    joined = packed_images.load_cifar10(tmp_path)
    for split, expected in images.items():
        assert np.array_equal(joined[split].images, expected.images)
        assert np.array_equal(joined[split].labels, expected.labels)
        assert joined[split].labels.dtype == np.int64


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_part_is_named(images, missing, tmp_path, refusal):
    packed_images.pack(images, tmp_path, 2)[missing].unlink()
    message = refusal(lambda: packed_images.load_cifar10(tmp_path))
    assert f"holds cifar10-part{2 - missing}of2.npz; all parts" in message


def test_an_npz_file_as_users_have_it(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "cifar10.npz", **arrays, train_labels=np.arange(40) % 10, test_labels=np.arange(40) % 10)
    loaded = packed_images.load_cifar10(tmp_path / "cifar10.npz")
    assert np.array_equal(loaded["test"].images, arrays["test_images"].transpose(0, 3, 1, 2))
    order = np.lexsort(loaded["train"].images.reshape(40, -1).T)
    expected = arrays["train_images"].transpose(0, 3, 1, 2).reshape(40, -1)
    assert np.array_equal(loaded["train"].images.reshape(40, -1)[order], expected[np.lexsort(expected.T)])
