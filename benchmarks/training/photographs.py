"""A folder of photographs for measurements: training images of CIFAR-10, enlarged to 96 to 224 pixels per side.

Each class has a folder. Both sides of an image are drawn independently, and every twentieth image is grey, as folders
of users have different shapes and modes. The same call writes the same images.

    python benchmarks/training/photographs.py cifar10.npz photos [--images 600]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from packed_images import load_cifar10
from PIL import Image

from mgnas.errors import UserError, first_line
from mgnas.search.data.images import ImageDataset

_SMALLEST, _LARGEST = 96, 224
_GREY = 20


def write_photographs(images: ImageDataset, folder: Path, count: int) -> None:
    """Write the first `count` images as JPEG files CLASS/NUMBER.jpg.

    Raises:
        UserError: there is something else at `folder` than an empty folder, or there are fewer images.
    """
    if not 1 <= count <= len(images):
        raise UserError(f"--images: must be from 1 to {len(images)}, not {count}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is no empty folder; name a new one")
    rng = np.random.default_rng(0)
    for number in range(count):
        photograph = Image.fromarray(images.gather(np.array([number]))[0].transpose(1, 2, 0))
        width, height = rng.integers(_SMALLEST, _LARGEST + 1, 2).tolist()
        photograph = photograph.resize((width, height))
        if number % _GREY == 0:
            photograph = photograph.convert("L")
        path = folder / str(images.labels[number]) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph.save(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""))
    parser.add_argument("data", type=Path, help="CIFAR-10: an npz file, torchvision's folder or a folder of parts")
    parser.add_argument("folder", type=Path, help="to write")
    parser.add_argument("--images", type=int, default=600)
    options = parser.parse_args()
    try:
        write_photographs(load_cifar10(options.data)["train"], options.folder, options.images)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
