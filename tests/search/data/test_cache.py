"""Data sets are converted once, shared by all processes, and never half."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgnas.search.data.dataset import DataSettings, load_dataset

LOAD = """
import logging, sys, time
from pathlib import Path
from mgnas.errors import UserError
from mgnas.search.data.dataset import DataSettings, load_dataset
logging.basicConfig(level=logging.INFO)
name, path, ready, go = sys.argv[1:]
Path(ready).touch()
while go and not Path(go).exists():
    time.sleep(0.001)
try:
    data = load_dataset(DataSettings(name=name, path=path))
    print(data.train.images.sum())
except UserError as error:
    print(error)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and nothing in this process that was loaded from another."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MGNAS_CACHE", str(folder))
    load_dataset.cache_clear()
    yield folder
    load_dataset.cache_clear()


@pytest.fixture
def load():
    """Keywords of DataSettings -> the data set, as a new process would open it."""

    def make(**values):
        load_dataset.cache_clear()
        return load_dataset(DataSettings(**values))

    return make


@pytest.fixture
def file(tmp_path, numbered):
    """Overwrites the same npz file with 20 images, all of them of this brightness."""

    def write(brightness: int) -> str:
        path = tmp_path / "images.npz"
        np.savez(path, train_images=np.full((20, 16, 16), brightness, np.uint8), train_labels=np.repeat([0, 1], 10))
        return str(path)

    return write


@pytest.fixture
def many_files(tmp_path) -> Path:
    """A folder with 2 x 300 files that are all the same noisy image; takes about a second to convert."""
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    first = tmp_path / "noise.png"
    Image.fromarray(noise).save(first)
    for number in range(600):
        link = tmp_path / "many" / f"class{number % 2}" / f"{number}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(first, link)
    return tmp_path / "many"


def start(tmp_path, name: str, path, number: int = 0, go: str = "", prefix: str = "") -> subprocess.Popen:
    command = [sys.executable, "-c", prefix + LOAD, name, str(path), str(tmp_path / f"ready-{number}"), go]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None
        time.sleep(0.001)


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_a_data_set_is_read_again_only_if_its_file_has_changed(cache, load, file):
    path = file(10)
    assert (load(name="npz", path=path).train.images == 10).all()
    times, changed = Path(path).stat(), file(20)
    # Size and time of modification say that nothing has changed, so nothing is read.
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (load(name="npz", path=path).train.images == 10).all()
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert (load(name="npz", path=path).train.images == 20).all()
    assert len(entries(cache)) == 2


def test_every_image_size_has_an_entry_and_splits_have_none(cache, load, file):
    path = file(10)
    for changes in ({}, {"split_seed": 5}, {"train_images": 10}, {"validation_fraction": 0.5}):
        assert load(name="npz", path=path, **changes).image_size == 16
    assert len(entries(cache)) == 1
    assert load(name="npz", path=path, image_size=8).image_size == 8
    assert len(entries(cache)) == 2


def test_two_spellings_of_a_path_share_an_entry(cache, load, file, tmp_path):
    path = file(10)
    (tmp_path / "link").symlink_to(tmp_path)
    load(name="npz", path=path)
    load(name="npz", path=str(tmp_path / "link" / "images.npz"))
    assert len(entries(cache)) == 1


def test_an_entry_holds_plain_arrays_and_says_what_they_are(cache, load, file):
    path = file(10)
    load(name="npz", path=path)
    (entry,) = entries(cache)
    assert np.load(entry / "train_images.npy").shape == (20, 1, 16, 16)
    assert np.load(entry / "train_labels.npy").tolist() == [0] * 10 + [1] * 10
    assert np.load(entry / "train_sums.npy").tolist() == [[[256 * 10], [256 * 100]]] * 20
    meta = json.loads((entry / "meta.json").read_text())
    assert meta["key"]["path"] == path
    assert meta["class_names"] == ["0", "1"]
    assert meta["files"] == {name.name: name.stat().st_size for name in entry.glob("*.npy")}


@pytest.mark.parametrize(
    "change", ["added", "removed", "renamed", "moved to another class", "touched", "resized", "class renamed"]
)
def test_a_changed_folder_is_converted_again(cache, load, tmp_path, change):
    root = tmp_path / "images"
    for label in "ab":
        for number in range(4):
            path = root / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), number).save(path)
    file = root / "a" / "3.png"
    load(name="folder", path=str(root))
    load(name="folder", path=str(root))
    assert len(entries(cache)) == 1
    match change:
        case "added":
            Image.new("L", (8, 8)).save(root / "a" / "4.png")
        case "removed":
            file.unlink()
        case "renamed":
            file.rename(root / "a" / "5.png")
        case "moved to another class":
            file.rename(root / "b" / "5.png")
        case "touched":
            os.utime(file, ns=(0, 0))
        case "resized":
            times = file.stat()
            file.write_bytes(file.read_bytes() + b"\0")
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        case "class renamed":
            (root / "a").rename(root / "c")
    load(name="folder", path=str(root))
    assert len(entries(cache)) == 2


def test_validation_images_are_part_of_an_entry(cache, load, tmp_path):
    arrays = {
        f"{name}_{kind}": array
        for name in ("train", "val")
        for kind, array in (
            ("images", np.arange(256, dtype=np.uint8).reshape(4, 8, 8)),
            ("labels", np.array([0, 1, 0, 1])),
        )
    }
    np.savez(tmp_path / "x.npz", **arrays)
    path = str(tmp_path / "x.npz")
    assert load(name="npz", path=path).own_validation
    (entry,) = entries(cache)
    truncate(entry / "validation_images.npy")
    again = load(name="npz", path=path)
    assert np.array_equal(again.validation.images[:, 0], arrays["val_images"])


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda entry: truncate(entry / "train_images.npy"), id="truncated images"),
        pytest.param(lambda entry: truncate(entry / "train_sums.npy"), id="truncated sums"),
        pytest.param(lambda entry: (entry / "train_images.npy").write_bytes(b""), id="empty images"),
        pytest.param(lambda entry: (entry / "train_labels.npy").unlink(), id="no labels"),
        pytest.param(
            lambda entry: (entry / "train_images.npy").write_bytes(b"?" * (entry / "train_images.npy").stat().st_size),
            id="garbage of the same size",
        ),
        pytest.param(lambda entry: (entry / "meta.json").unlink(), id="no meta"),
        pytest.param(lambda entry: (entry / "meta.json").write_text("[]"), id="another meta"),
        pytest.param(lambda entry: truncate(entry / "meta.json") or truncate(entry / "meta.json"), id="truncated meta"),
    ],
)
def test_a_damaged_entry_is_built_anew(cache, load, file, damage):
    path = file(10)
    load(name="npz", path=path)
    (entry,) = entries(cache)
    damage(entry)
    dataset = load(name="npz", path=path)
    assert (dataset.train.images == 10).all()
    assert dataset.train.labels.tolist() == [0] * 8 + [1] * 8
    assert entries(cache) == [entry]


def test_an_entry_is_opened_without_the_lock(cache, load, file):
    """So a cache that somebody else has filled may be read-only. A lock that is a directory cannot be taken."""
    path = file(10)
    load(name="npz", path=path)
    (lock,) = cache.glob("*.lock")
    lock.unlink()
    lock.mkdir()
    assert (load(name="npz", path=path).train.images == 10).all()


def test_processes_that_start_together_convert_once(cache, tmp_path, many_files):
    go = tmp_path / "go"
    processes = [start(tmp_path, "folder", many_files, number, str(go)) for number in range(4)]
    wait_for(lambda: all((tmp_path / f"ready-{number}").exists() for number in range(4)))
    go.touch()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert sum("converting" in errors for _, errors in outputs) == 1
    assert len({output for output, _ in outputs}) == 1
    assert int(outputs[0][0]) > 0
    assert len(entries(cache)) == 1


def test_a_conversion_that_was_killed_leaves_nothing_that_is_taken_for_an_entry(cache, load, tmp_path, many_files):
    process = start(tmp_path, "folder", many_files)

    def half_written() -> bool:
        return any(path.stat().st_size > 10**6 for path in cache.glob("*.partial/train_images.npy"))

    wait_for(half_written, process)
    process.kill()
    process.communicate()
    (left,) = entries(cache)
    assert left.name.endswith(".partial")
    assert not (left / "meta.json").exists()
    dataset = load(name="folder", path=str(many_files))
    assert len(dataset.train) + len(dataset.validation) == 600
    noise = np.asarray(Image.open(tmp_path / "noise.png")).transpose(2, 0, 1)
    assert (dataset.validation.gather(slice(None)) == noise).all()
    (entry,) = entries(cache)
    assert not entry.name.endswith(".partial")


@pytest.mark.parametrize("under", ["file", "file/cache"])
def test_a_cache_that_cannot_be_written_is_one_line_with_a_remedy(tmp_path, monkeypatch, load, refusal, under):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MGNAS_CACHE", str(tmp_path / under))
    message = refusal(lambda: load(name="digits"))
    assert message.startswith(f"{tmp_path / under}: the cache of converted images cannot be written (")
    assert "set MGNAS_CACHE to a folder" in message


def test_a_disk_that_is_full_is_one_line_with_a_remedy_and_leaves_nothing(cache, tmp_path, many_files):
    """The system refuses to let any file of that process grow beyond a megabyte."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
    output, _ = start(tmp_path, "folder", many_files, prefix=limit).communicate(timeout=60)
    assert output.startswith(f"{cache}: the cache of converted images cannot be written (File too large); ")
    assert len(output.splitlines()) == 1
    assert entries(cache) == []


def test_without_the_variable_the_cache_is_in_the_home_directory(tmp_path, monkeypatch, load, file):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MGNAS_CACHE")
    load(name="npz", path=file(10))
    assert len(entries(tmp_path / ".cache" / "mgnas")) == 1


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is measured as Linux tells it")
def test_a_process_holds_no_copy_of_the_images(cache, load, tmp_path):
    path = str(tmp_path / "large.npz")
    np.savez(path, train_images=np.ones((20_000, 3, 32, 32), np.uint8), train_labels=np.arange(20_000) % 10)
    load(name="npz", path=path)
    script = f"""
import re
import numpy as np
from pathlib import Path
from mgnas.search.data.dataset import DataSettings, load_dataset
def own():
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(kilobytes) for kilobytes in re.findall(r"Private_Dirty:\\s+(\\d+)", text)) / 1024
before = own()
data = load_dataset(DataSettings(name="npz", path={path!r}))
both = data.train + data.validation
both.mean_std()
for start in range(0, 20_000, 100):
    both.gather(np.arange(start, start + 100))
print(own() - before)
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    # The images alone are 58 MB.
    assert float(output) < 15
