"""Folders of images, with one subfolder for each class."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from mgnas.errors import UserError

from .cache import RawDataset, RawSplit
from .file_tree import FolderTree
from .image_files import WHITE, LazyImageFiles, common_shape
from .layout import find_layout

logger = logging.getLogger(__name__)


def read_folder(root: Path, image_size: int | None, background: tuple[int, int, int] = WHITE) -> RawDataset:
    """The images of a folder, whose layout `find_layout` finds. What is not read is named in the log.

    If all images are greyscale they keep their one channel, otherwise all become RGB.

    Args:
        root: the folder.
        image_size: pixels per side. The shorter side is resized to it, and the centre is cut out. None: the images keep
            their size, which must be the same for all.
        background: the colour that transparent pixels show.

    Raises:
        UserError: the layout is not clear, there are fewer than 2 classes, a class has no images, test or validation
            images have an unknown class, images cannot be read, or sizes differ and there is no `image_size`.
    """
    if not root.is_dir():
        raise UserError(f"{root}: is no folder (data.path); for arrays in a file use data: {{name: npz}}")
    tree, layout = FolderTree(root), find_layout(root)
    if layout.passed_over:
        logger.warning("%s: not read: %s", root, layout.passed_over)
    files = layout.files
    channels, size, large = common_shape(tree, files, image_size, background)
    labels = {name: label for label, name in enumerate(layout.train)}

    def raw_split(classes: dict[str, list[str]] | None) -> RawSplit | None:
        if classes is None:
            return None
        inside = [file for files in classes.values() for file in files]
        images = LazyImageFiles(inside, tree, channels, size, True, large, background, together=files)
        return RawSplit(images, np.array([labels[name] for name, files in classes.items() for _ in files]))

    train, test, validation = map(raw_split, (layout.train, layout.test, layout.validation))
    assert train is not None
    return RawDataset(train, test, tuple(layout.train), validation)
