"""Batches out of a memory-mapped file, and what they cost a process."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mgnas.search.data.images import ImageDataset
from mgnas.search.training.device_images import DeviceImages, _copied


def test_batches_are_the_images_of_the_indices(numbered):
    part = numbered([6, 6])
    store = DeviceImages(part, torch.device("cpu"))
    chosen = torch.tensor([5, 0, 11])
    assert np.array_equal(store.gather(chosen).numpy(), part.images[chosen.numpy()])
    assert np.array_equal(store.gather(slice(3, 7)).numpy(), part.images[3:7])
    assert np.array_equal(store.labels.numpy(), part.labels)
    assert len(store) == 12


MEASURE = """
import sys
import numpy as np, torch
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.device_images import DeviceImages

def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty")) / 1024

data = DataSettings(name="npz", path=sys.argv[1])
torch.zeros(1000).sum()
before = private()
store = DeviceImages(load_dataset(data).train, torch.device("cpu"))
total = sum(int(store.gather(part).sum()) for part in torch.arange(len(store)).split(128))
assert total > 0
print(private() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="memory is measured through Linux' /proc")  # noqa: PTH110
def test_a_trial_on_a_cpu_keeps_no_copy_of_the_images(tmp_path):
    count = 40_000  # As large as CIFAR-10's training part: 117 MB.
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "large.npz", train_images=images, train_labels=np.arange(count) % 10)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "large.npz")]
    for _ in range(2):  # The first process converts.
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 60


def test_images_that_find_no_room_after_all_stay_in_their_file():
    count = 2**16
    pixels = np.broadcast_to(np.zeros(1, np.uint8), (count, 2**16, 2**12, 2**12))
    assert _copied(ImageDataset(pixels, np.zeros(count, np.int64)), torch.device("cpu")) is None
