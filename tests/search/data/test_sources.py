"""Data sets that torchvision downloads: in their folder already, damaged there, or out of reach."""

import socket

import numpy as np
import pytest

from mgnas.search.data.dataset import DataSettings, load_dataset


@pytest.fixture
def no_network(monkeypatch):
    """Every connection is refused at once: the proxy is a port of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist", "tinyimagenet"])
def test_a_failed_download_names_the_folder_and_a_remedy(tmp_path, refusal, name):
    message = refusal(lambda: load_dataset(DataSettings(name=name, path=str(tmp_path / "cache"))))
    assert message.startswith(f"data: {name} could not be downloaded (")
    assert f"put the official archive into {tmp_path / 'cache'}" in message
    assert "{name: npz, path: ..}" in message


@pytest.mark.usefixtures("no_network")
def test_a_folder_for_downloads_that_is_a_file_is_refused(tmp_path, refusal):
    (tmp_path / "cache").write_text("")
    message = refusal(lambda: load_dataset(DataSettings(name="cifar10", path=str(tmp_path / "cache"))))
    assert str(tmp_path / "cache") in message


def idx(array: np.ndarray) -> bytes:
    """MNIST's file format: type 8 (uint8), number of dimensions, big-endian lengths, the numbers."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path, numbered):
    """A folder with a small FashionMNIST in torchvision's layout, and its training and test images."""
    train, test = numbered([3] * 10, size=28), numbered([1] * 10, size=28)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, part in (("train", train), ("t10k", test)):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(part.images[:, 0]))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(part.labels))
    return tmp_path, train, test


@pytest.mark.usefixtures("no_network")
def test_a_set_that_lies_in_the_folder_is_read_from_there(fashion, numbers):
    folder, train, test = fashion
    dataset = load_dataset(DataSettings(name="fashion_mnist", path=str(folder), validation_fraction=0.4))
    used = dataset.train + dataset.validation
    # The first two pixels of the numbered images say which they are.
    order = np.argsort(numbers(used))
    assert np.array_equal(used.images[order], train.images)
    assert np.array_equal(used.labels[order], train.labels)
    assert np.array_equal(dataset.test.images, test.images)
    assert np.array_equal(dataset.test.labels, test.labels)
    assert dataset.class_names[:3] == ("T-shirt/top", "Trouser", "Pullover")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("keep", [0, 3, 40])
def test_a_set_that_is_damaged_in_the_folder_is_refused(fashion, refusal, keep):
    folder, _, _ = fashion
    file = folder / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:keep])
    message = refusal(lambda: load_dataset(DataSettings(name="fashion_mnist", path=str(folder))))
    assert f"put the official archive into {folder}" in message
