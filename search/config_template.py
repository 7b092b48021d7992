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
_SIZES = (32, 64, 96, 128, 160, 224)
"""Pixels per side to which photographs are resized."""
_MAX_PIXELS = 500_000_000
"""Pixels of all photographs together, 1.5 GB in RGB. Only sizes above `_PHOTO` are avoided for their sake."""
_PHOTO = 64
"""Pixels per side from which on images get a strided stem."""
_SMALL = 16
"""Pixels per side from which on wide kernels and depthwise groups make sense."""
_FEW = 1_000
"""Below this number of images, wide networks only overfit."""

_EPOCHS = ((200_000, 3, 15), (20_000, 10, 60), (500, 30, 90), (100, 60, 180), (0, 120, 360))
"""(minimum number of images, epochs of a candidate, epochs of a final training), by descending numbers.

About 1,000 steps tell good networks from bad ones of the same weights. Three times as many rank them better, but
training three times as many networks gains more (benchmarks/README.md, Does a short training rank what matters?).
"""


def detect_dataset(source: str, image_size: int | None = None) -> DataSettings:
    """The `data` section for a data set on disk or one with a known name.

    Args:
        source: a folder of class folders, an .npz file, Tiny ImageNet's archive or folder, or the name of a data set.
        image_size: pixels per side. Default: the images' own size, or one of `_SIZES` for photographs.

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
    """Pixels per side by the images' shorter sides and their number.

    None stands for the images' own size, if they are squares of one size that photographs could be resized to.
    """
    files, sizes = find_layout(folder).files, []
    for file in files[:: max(len(files) // _LOOKED_AT, 1)]:
        try:
            with Image.open(folder / file) as image:
                sizes.append(image.size)
        except Exception:  # Pillow raises many kinds of errors. load_dataset names the damaged file.
            continue
    if not sizes or (len(set(sizes)) == 1 and sizes[0][0] == sizes[0][1] <= _largest_side(len(files))):
        return None
    return photo_size(statistics.median(min(size) for size in sizes), len(files))


def photo_size(shorter: float, images: int) -> int:
    """Pixels per side to which photographs are resized: no more than they have, unless that is below 32.

    Args:
        shorter: pixels of the images' shorter sides.
        images: the number of images.
    """
    return max((size for size in _SIZES if size <= min(shorter, _largest_side(images))), default=_SIZES[0])


def _largest_side(images: int) -> int:
    """The largest number of pixels per side of this number of images."""
    return min(_SIZES[-1], max(_PHOTO, math.isqrt(_MAX_PIXELS // images)))


def render_config(name: str, data: DataSettings, dataset: Dataset) -> str:
    """The text of a search config.

    Args:
        name: the name of the run directories.
        data: the `data` section, as `detect_dataset` returns it.
        dataset: the images.
    """
    images, size, classes = len(dataset.train), dataset.image_size, dataset.num_classes
    colour, few = dataset.in_channels == 3, images < _FEW and size >= _SMALL
    photos = colour and size >= _PHOTO
    channels, scalings = _channels(size), [0.5, 1] if few else [0.5, 1, 2]
    epochs, final = next((short, long) for least, short, long in _EPOCHS if images >= least)
    compare = (
        f"{len(dataset.validation):,}{' of their own split' if dataset.own_validation else ''} to compare networks with"
    )
    text = _TEMPLATE.format(
        name=name,
        images=f"{images:,} images to train on and {compare}",
        classes=classes,
        kind=f"{size} x {size} pixels, {'RGB' if colour else 'grey'}",
        size_reason=_SIZE_REASON if data.name == "folder" and data.image_size is not None else "",
        data=", ".join(f"{key}: {value}" for key, value in _given(data).items()),
        channels=", ".join(map(str, channels)),
        scalings=scalings,
        scaling_reason="; more would only overfit so few images" if few else "",
        stem=_STEM.format(strides=_stem_strides(size)) if size >= _PHOTO else "",
        smoothers=_SMOOTHERS if size >= _SMALL else "",
        groups=[1, 4, 8] if size >= _SMALL else [4, 8],
        depthwise="; 1: depthwise (mgiad)" if size >= _SMALL else "",
        kernels=_KERNELS.format(sizes=[3, 5] if size < 32 else [3, 5, 7]) if size >= _SMALL else "",
        coupled=[8, 16] if size >= _SMALL else [4, 8, 16],
        budget=_budget(size, images, classes, scalings[-1] * max(levels[-1] for levels in channels)),
        macs=_max_macs(size),
        epochs=epochs,
        batch=_batch_size(images, photos),
        warmup=2 if epochs >= 30 else 1 if epochs >= 10 else 0.5,
        crops=_RESIZED_CROPS if photos else _SHIFTED_CROPS.format(padding=min(max(size // 8, 1), 64)),
        flip=str(colour).lower(),
        final=final,
        final_crops=_FINAL_CROPS if photos else "",
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
    if size < _SMALL:
        return [[8, 16], [16, 32], [8, 16, 32]]
    if size < _PHOTO:
        return [[32, 64], [16, 32, 64], [32, 64, 128]]
    six_levels = [[16, 32, 64, 64, 128, 128]] if size >= 160 else []
    return [[32, 64, 128], [16, 32, 64, 128], [32, 64, 128, 128], [16, 32, 64, 128, 128], *six_levels]


def _stem_strides(size: int) -> list[int]:
    """Strides of the stem that leave 24 to 112 pixels per side; the largest one if none does."""
    return [stride for stride in (1, 2, 4) if 24 <= size / stride <= 112] or [4]


def _batch_size(images: int, photos: bool) -> int:
    """About 16 steps per epoch for small data sets, with at least 16 images per batch, which batch norm needs."""
    return min(64 if photos else 128, max(16, 2 ** max((images // 16).bit_length() - 1, 0)))


def _budget(size: int, images: int, classes: int, features: float) -> str:
    """The limit of weights, as YAML shows it. The last layer takes a quarter of it at most.

    Args:
        size, images, classes: of the data set.
        features: channels that the last layer of the widest network has.
    """
    if size < _SMALL:
        body = 30_000
    elif images < _FEW:
        body = 100_000
    else:
        body = 500_000 if classes < 100 else 3_000_000
    weights = max(body, 4 * classes * (features + 1))
    return f"{math.ceil(weights / 1000)}k" if weights < 1_000_000 else f"{math.ceil(weights / 100_000) / 10:g}M"


def _max_macs(size: int) -> str:
    """The line with the limit of multiply-accumulates, as a comment for small images."""
    if size < _PHOTO:
        return "# max_macs: 20M # multiply-accumulates per image"
    # Beyond 448 pixels even stride 4 leaves the finest level more than 112.
    return f"max_macs: {150 if size <= 448 else 600}M # multiply-accumulates per image: the time of a training on a CPU"


_SIZE_REASON = """\
# image_size: by the images' shorter sides. Twice the pixels per side take four times as long to train. Large data sets
# get smaller sizes, so that they fit into 1.5 GB of memory and an epoch does not take hours on a CPU.
"""

_STEM = """\
    stem_stride: {strides} # the finest level has this fraction of the pixels per side
"""

_SMOOTHERS = """\
    smoother: [learned, polynomial] # B: convolutions, or polynomials in A, which have no weights (mgnet, mgiad)
    polynomial_degree: [0, 1] # of the polynomials (mgnet, mgiad)
"""

_KERNELS = """\
    kernel_size: {sizes} # of the grouped convolutions (mgiad)
"""

_SHIFTED_CROPS = "crop_padding: {padding} # random crops; 0 if positions in the image matter"

_RESIZED_CROPS = "random_resized_crop: 0.35 # random parts of at least 35 % of the image; 0: the whole image"

_FINAL_CROPS = """\
  random_resized_crop: 0.25 # smaller parts, as there are more epochs
"""

_TEMPLATE = """\
# A search over multigrid networks, written by `mgnas init`; change what you like. docs/space.md explains every key.
# {images}, {classes} classes, {kind}.
name: {name}

{size_reason}data: {{{data}}}

space:
  # Each parameter is a list of choices, or a range {{low: .., high: ..}}; `fixed` holds what is not searched.
  parameters:
    family: [mgnet, mgic, mgiad]
    base_channels: [{channels}] # channels per level
    channel_scaling: {scalings} # lambda: all channels times this{scaling_reason}
{stem}    smoothing_steps: {{low: 1, high: 3}} # nu (mgnet, mgiad)
    sharing: [A, AB] # which operators the steps of a level share (mgnet)
{smoothers}    group_size: {groups} # g_s: channels per group (mgic, mgiad){depthwise}
{kernels}    fully_coupled_channels: {coupled} # no channel level is coarser (mgic, mgiad)
    blocks: {{low: 1, high: 2}} # residual blocks per stage (mgic)
  limits:
    max_weights: {budget} # what the device can hold; larger networks are never trained
    {macs}
    # max_activation_memory_int8: 128kB # RAM for the activations of one image
    # max_flash_int8: 256kB # flash memory for the weights

training: # of each candidate; short, because candidates are only compared
  epochs: {epochs}
  batch_size: {batch}
  learning_rate: 0.1
  warmup_epochs: {warmup}
  {crops}
  flip: {flip} # mirror left to right; false if that changes the class (digits, text)

search:
  trials: 40 # how many candidates to train
  prior: none # or an earlier run on similar images, whose results are then used
  seed: 0

resources:
  cpus_per_trial: 1
  gpus_per_trial: auto # trials share the GPUs that there are; 0: CPUs only

final_training: # of the networks that you select, by `mgnas train` and `mgnas retrain`
  epochs: {final}
  label_smoothing: 0.1 # a tenth of the target is shared by all classes
{final_crops}"""
