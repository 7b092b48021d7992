"""A search config for images found on disk, with comments: a beginning, not an optimum."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mgnas.errors import UserError

from .data.dataset import Dataset, DataSettings
from .data.image_folder import SUFFIXES
from .data.sources import KNOWN_SHAPES

_LOOKED_AT, _COMMENT_COLUMN = 300, 44
_SIZES = (32, 64)
"""Pixels per side that photographs are brought to: what the published networks of this field were made for."""


def detect_dataset(place: str, image_size: int | None = None) -> DataSettings:
    """The `data` section for what lies at a place.

    Args:
        place: a folder of class folders, an .npz file, Tiny ImageNet's archive or folder, or the name of a data set.
        image_size: pixels per side; default: as they are, and for photographs of other sizes 32 or 64.

    Raises:
        UserError: there is nothing, or nothing that is known.
    """
    path = Path(place).expanduser()
    if not path.exists():
        if place in KNOWN_SHAPES:
            return DataSettings(name=place, image_size=image_size)
        known = ", ".join(KNOWN_SHAPES)
        raise UserError(f"{place}: no such file or folder, nor a data set that mgnas knows ({known})")
    found = str(path.resolve())
    if path.suffix == ".npz":
        return DataSettings(name="npz", path=found, image_size=image_size)
    archive = "tiny-imagenet-200"
    if path.name == f"{archive}.zip" or any(
        (path / mark).exists() for mark in ("wnids.txt", archive, f"{archive}.zip")
    ):
        return DataSettings(name="tinyimagenet", path=found, image_size=image_size)
    for name, marker in (("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")):
        if (path / marker).is_dir():
            return DataSettings(name=name, path=found, image_size=image_size)
    if path.is_dir():
        return DataSettings(name="folder", path=found, image_size=image_size or _size_for(path))
    raise UserError(f"{place}: expected a folder of class folders, an .npz file, or a data set's archive")


def _size_for(folder: Path) -> int | None:
    """None if the images are squares of one size that is not large; else 32 or 64, by their shorter sides."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    sizes = []
    for file in islice(files, _LOOKED_AT):
        try:
            with Image.open(file) as image:
                sizes.append(image.size)
        except (OSError, UnidentifiedImageError):
            continue  # Reading the data set names it in its error.
    if not sizes:
        raise UserError(f"{folder}: no images in it; expected a folder for each class, with its images in it")
    if len(set(sizes)) == 1 and sizes[0][0] == sizes[0][1] <= _SIZES[-1]:
        return None
    shorter = statistics.median(min(size) for size in sizes)
    return _SIZES[0] if shorter < _SIZES[-1] else _SIZES[-1]


def render_config(name: str, data: DataSettings, dataset: Dataset) -> str:
    """The text of a search config.

    Args:
        name: of the run directories.
        data: as `recognise` found it.
        dataset: the images.
    """
    images, size = len(dataset.train), dataset.image_size
    channels = _channels(size)
    colour = dataset.in_channels == 3
    # About 16 steps an epoch in small sets; below 16 images batch norm estimates little.
    batch = min(128, max(16, 2 ** max((images // 16).bit_length() - 1, 0)))
    epochs = 30 if images < 20_000 else 20
    lines = ", ".join(f"{key}: {value}" for key, value in _given(data).items())
    text = _TEMPLATE.format(
        name=name,
        images=f"{images:,} images to train on and {len(dataset.validation):,} to compare networks with",
        classes=dataset.num_classes,
        kind=f"{size} x {size} pixels, {'RGB' if colour else 'grey'}",
        data=lines,
        channels=", ".join(str(each) for each in channels),
        coupled=[8, 16] if size >= 16 else [4, 8, 16],
        budget="30k" if size < 16 else "500k" if dataset.num_classes < 100 else "3M",
        epochs=epochs,
        batch=batch,
        warmup=2 if epochs >= 30 else 1,
        padding=max(size // 8, 1),
        flip=str(colour).lower(),
        final=3 * epochs,
    )
    return "\n".join(map(_aligned, text.split("\n")))


def _aligned(line: str) -> str:
    """The comment behind a setting begins in one column, where there is room."""
    setting, mark, comment = line.partition(" #")
    return f"{setting.rstrip():<{_COMMENT_COLUMN}}{mark}{comment}" if setting.strip() and mark else line


def _given(data: DataSettings) -> dict[str, object]:
    """The keys that say something, as YAML shows them."""
    defaults = {key: value for key, value in asdict(data).items() if value is not None}
    kept = {key: value for key, value in defaults.items() if key in ("name", "path", "image_size")}
    return {key: _quoted(value) if isinstance(value, str) and key == "path" else value for key, value in kept.items()}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _channels(size: int) -> Sequence[list[int]]:
    """Channels per resolution level: each further level halves the image, and 4 pixels are enough at the end."""
    if size < 16:
        return [[8, 16], [16, 32], [8, 16, 32]]
    if size < 48:
        return [[16, 32, 64], [32, 64, 128]]
    return [[16, 32, 64, 128], [32, 64, 128, 128]]


_TEMPLATE = """\
# A search over multigrid networks, proposed by `mgnas init`; change what you like. docs/space.md explains every key.
# {images}, {classes} classes, {kind}.
name: {name}

data: {{{data}}}

space:
  # Each parameter is a list of choices, or a range {{low: .., high: ..}}; `fixed` holds what is not searched.
  parameters:
    family: [mgnet, mgic, mgiad]
    base_channels: [{channels}] # channels per resolution level
    channel_scaling: [0.5, 1, 2] # lambda: all channels times this
    smoothing_steps: {{low: 1, high: 3}} # nu (mgnet, mgiad)
    sharing: [A, AB] # which operators the steps of a level share (mgnet)
    group_size: [4, 8] # g_s: channels per group (mgic, mgiad)
    fully_coupled_channels: {coupled} # no channel level is coarser (mgic, mgiad)
    blocks: {{low: 1, high: 2}} # residual blocks per stage (mgic)
  limits:
    max_weights: {budget} # what the device can hold; networks above it are never trained
    # max_macs: 20M # multiply-accumulates per image

training: # of each candidate; short, since only comparisons count
  epochs: {epochs}
  batch_size: {batch}
  learning_rate: 0.1
  warmup_epochs: {warmup}
  crop_padding: {padding} # random crops; 0 if the place of things matters
  flip: {flip} # mirror left to right; false if that changes the class (digits, text)

search:
  trials: 40 # how many candidates to train
  prior: cifar10 # begin with what an earlier search knows; none: begin from nothing
  seed: 0

resources:
  cpus_per_trial: 1
  gpus_per_trial: 0 # 0.25 packs four trials onto one GPU

final_training: # of what you select, by `mgnas train` and `mgnas retrain`
  epochs: {final}
"""
