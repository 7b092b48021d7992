import dataclasses

import numpy as np
import pytest

from mgnas.search.data.dataset import Dataset
from mgnas.search.data.digest import dataset_digest, former_digest
from mgnas.search.data.images import ImageDataset


@pytest.fixture
def dataset(numbered) -> Dataset:
    return Dataset(numbered([6, 6]), numbered([2, 2]), None, ("cat", "dog"))


def test_the_digest_tells_datasets_apart(dataset):
    train = dataset.train
    others = [
        ImageDataset(train.images, np.roll(np.asarray(train.labels), 1)),
        ImageDataset(255 - np.asarray(train.images), train.labels),
        ImageDataset(train.images[:, :, :4], train.labels),
    ]
    digests = {dataset_digest(dataclasses.replace(dataset, train=other)) for other in (train, *others)}
    assert len(digests) == 4
    assert dataset_digest(dataset) == dataset_digest(dataclasses.replace(dataset))


def test_two_classes_that_change_places_change_the_digest():
    """Labels, shape, mean and deviation stay the same, so the digest of version 0.1.0 does not notice."""
    labels = np.repeat([0, 1], 4)
    black_and_white = np.repeat([0, 255], 4).astype(np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    parts = [ImageDataset(images, labels) for images in (black_and_white, black_and_white[::-1].copy())]
    one, other = (Dataset(part, part, None, ("cat", "dog")) for part in parts)
    assert former_digest(one) == former_digest(other)
    assert dataset_digest(one) != dataset_digest(other)


def test_other_names_of_the_classes_change_the_digest(dataset):
    renamed = dataclasses.replace(dataset, class_names=("cat", "wolf"))
    assert dataset_digest(renamed) != dataset_digest(dataset)
