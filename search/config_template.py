"""A commented search config for images found on disk, as a starting point."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mgnas.errors import UserError
from mgnas.settings import build

from .data.dataset import Dataset, DataSettings
from .data.layout import find_layout
from .data.sources import KNOWN_SHAPES

_LOOKED_AT, _COMMENT_COLUMN = 300, 44
_SCALINGS = (0.5, 1, 2)
_SIZES = (32, 64)
"""Pixels per side to which photographs are resized. The published networks of this field have these sizes."""


def detect_dataset(source: str, image_size: int | None = None) -> DataSettings:
    """The `data` section for a data set on disk or one with a known name.

    Args:
        source: a folder of class folders, an .npz file, Tiny ImageNet's archive or folder, or the name of a data set.
        image_size: pixels per side. Default: the images' own size, or 32 or 64 for photographs.

    Raises:
        UserError: there is no such file or folder, or it is not a data set.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if source in KNOWN_SHAPES:
            return build(DataSettings, {"name": source, "image_size": image_size}, "data")
        names = ", ".join(KNOWN_SHAPES)
        raise UserError(f"{source}: no such file or folder, nor a data set that mgnas knows ({names})")
    resolved = str(path.resolve())
    if path.suffix == ".npz":
        return DataSettings(name="npz", path=resolved, image_size=image_size)
    archive = "tiny-imagenet-200"
    if path.name == f"{archive}.zip" or any(
        (path / name).exists() for name in ("wnids.txt", archive, f"{archive}.zip")
    ):
        return DataSettings(name="tinyimagenet", path=resolved, image_size=image_size)
    if (path / "cifar-10-batches-py").is_dir():
        return DataSettings(name="cifar10", path=resolved, image_size=image_size)
    if (path / "cifar-100-python").is_dir():
        return DataSettings(name="cifar100", path=resolved, image_size=image_size)
    if path.is_dir():
        return DataSettings(name="folder", path=resolved, image_size=image_size or _size_for(path))
    raise UserError(f"{source}: expected a folder of class folders, an .npz file, or a data set's archive")


def _size_for(folder: Path) -> int | None:
    """None if the images are squares of one size up to 64, else 32 or 64, depending on their shorter sides."""
    files, sizes = find_layout(folder).files, []
    for file in files[:: max(len(files) // _LOOKED_AT, 1)]:
        try:
            with Image.open(folder / file) as image:
                sizes.append(image.size)
        except Exception:  # Pillow raises many kinds of errors. load_dataset names the damaged file.
            continue
    if not sizes or (len(set(sizes)) == 1 and sizes[0][0] == sizes[0][1] <= _SIZES[-1]):
        return None
    shorter = statistics.median(min(size) for size in sizes)
    return _SIZES[0] if shorter < _SIZES[-1] else _SIZES[-1]


def render_config(name: str, data: DataSettings, dataset: Dataset) -> str:
    """The text of a search config.

    Args:
        name: the name of the run directories.
        data: the `data` section, as `detect_dataset` returns it.
        dataset: the images.
    """
    images, size = len(dataset.train), dataset.image_size
    channels = _channels(size)
    colour = dataset.in_channels == 3
    # About 16 steps per epoch for small data sets, with at least 16 images per batch, which batch norm needs.
    batch = min(128, max(16, 2 ** max((images // 16).bit_length() - 1, 0)))
    epochs = 30 if images < 20_000 else 20
    compare = (
        f"{len(dataset.validation):,}{' of their own split' if dataset.own_validation else ''} to compare networks with"
    )
    lines = ", ".join(f"{key}: {value}" for key, value in _given(data).items())
    text = _TEMPLATE.format(
        name=name,
        images=f"{images:,} images to train on and {compare}",
        classes=dataset.num_classes,
        kind=f"{size} x {size} pixels, {'RGB' if colour else 'grey'}",
        data=lines,
        channels=", ".join(map(str, channels)),
        coupled=[8, 16] if size >= 16 else [4, 8, 16],
        budget=_budget(size, dataset.num_classes, channels),
        scalings=list(_SCALINGS),
        epochs=epochs,
        batch=batch,
        warmup=2 if epochs >= 30 else 1,
        padding=max(size // 8, 1),
        flip=str(colour).lower(),
        final=3 * epochs,
    )
    return "\n".join(map(_aligned, text.split("\n")))


def _aligned(line: str) -> str:
    """The line with its comment in the same column as other comments, if there is room."""
    setting, mark, comment = line.partition(" #")
    return f"{setting.rstrip():<{_COMMENT_COLUMN}}{mark}{comment}" if setting.strip() and mark else line


def _given(data: DataSettings) -> dict[str, object]:
    """The settings that are worth writing, as YAML shows them."""
    path = None if data.path is None else _quoted(data.path)
    values = {"name": data.name, "path": path, "image_size": data.image_size}
    return {key: value for key, value in values.items() if value is not None}


def _quoted(text: str) -> str:
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    # In double quotes YAML reads the escapes of JSON.
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in json.dumps(text, ensure_ascii=False))


def _channels(size: int) -> Sequence[list[int]]:
    """Choices of channels per resolution level. Each further level halves the image, down to about 4 pixels."""
    if size < 16:
        return [[8, 16], [16, 32], [8, 16, 32]]
    if size < 48:
        return [[16, 32, 64], [32, 64, 128]]
    return [[16, 32, 64, 128], [32, 64, 128, 128]]


def _budget(size: int, classes: int, channels: Sequence[list[int]]) -> str:
    """The limit of weights, as YAML shows it. Many classes get what the weights of the last layer add."""
    weights = 30_000 if size < 16 else 500_000 if classes < 100 else 3_000_000
    head = classes * _SCALINGS[-1] * max(levels[-1] for levels in channels)
    if 4 * head > weights:
        weights += head
    return f"{math.ceil(weights / 1000)}k" if weights < 1_000_000 else f"{math.ceil(weights / 100_000) / 10:g}M"


_TEMPLATE = """\
# A search over multigrid networks, written by `mgnas init`; change what you like. docs/space.md explains every key.
# {images}, {classes} classes, {kind}.
name: {name}

data: {{{data}}}

space:
  # Each parameter is a list of choices, or a range {{low: .., high: ..}}; `fixed` holds what is not searched.
  parameters:
    family: [mgnet, mgic, mgiad]
    base_channels: [{channels}] # channels per resolution level
    channel_scaling: {scalings} # lambda: all channels times this
    smoothing_steps: {{low: 1, high: 3}} # nu (mgnet, mgiad)
    sharing: [A, AB] # which operators the steps of a level share (mgnet)
    group_size: [4, 8] # g_s: channels per group (mgic, mgiad)
    fully_coupled_channels: {coupled} # no channel level is coarser (mgic, mgiad)
    blocks: {{low: 1, high: 2}} # residual blocks per stage (mgic)
  limits:
    max_weights: {budget} # what the device can hold; larger networks are never trained
    # max_macs: 20M # multiply-accumulates per image

training: # of each candidate; short, because candidates are only compared
  epochs: {epochs}
  batch_size: {batch}
  learning_rate: 0.1
  warmup_epochs: {warmup}
  crop_padding: {padding} # random crops; 0 if positions in the image matter
  flip: {flip} # mirror left to right; false if that changes the class (digits, text)

search:
  trials: 40 # how many candidates to train
  prior: cifar10 # use the results of an earlier search; none: begin without
  seed: 0

resources:
  cpus_per_trial: 1
  gpus_per_trial: auto # trials share the GPUs that there are; 0: CPUs only

final_training: # of the networks that you select, by `mgnas train` and `mgnas retrain`
  epochs: {final}
"""
