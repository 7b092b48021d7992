"""What users give a trained network to classify: arrays, tensors and PIL images, checked and brought to one shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mgnas.errors import UserError, first_line
from mgnas.files import short

from ...search.data.image_files import WHITE, pixels_of

_ACCEPTED = "an array, a tensor, a PIL image, or a list of these"


def as_images(
    images: Any, channels: int, size: int | None, background: tuple[int, int, int] = WHITE
) -> Tensor | np.ndarray:
    """The images as one tensor or array: uint8, n x channels x h x w.

    Args:
        images: a tensor or an array of this shape; a PIL image; a list of PIL images, or of tensors or arrays of shape
            channels x h x w.
        channels: of the network.
        size: pixels per side that the network was trained on; PIL images are brought to it, others must have it. None:
            not known, so any will do.
        background: red, green and blue of what transparent pixels of PIL images show.

    Raises:
        UserError: anything else.
    """
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, list | tuple):
        images = _stacked(images, channels, size, background)
    if not isinstance(images, Tensor | np.ndarray):
        hint = "; open a file with PIL.Image.open" if isinstance(images, str) or hasattr(images, "__fspath__") else ""
        raise UserError(f"predict: expected {_ACCEPTED}, got {short(images)}{hint}")
    if images.dtype not in (torch.uint8, np.uint8) or images.ndim != 4 or images.shape[1] != channels:
        given = f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        raise UserError(f"predict: expected uint8 images of shape n x {channels} x h x w, got {given}")
    height, width = images.shape[2:]
    if len(images) and size is not None and (height, width) != (size, size):
        remedy = "resize them, or give PIL images, which are resized"
        problem = f"the images have {width} x {height} pixels, and the network was trained on {size} x {size}"
        raise UserError(f"predict: {problem}; {remedy}")
    return images


def _stacked(
    images: list[Any] | tuple[Any, ...], channels: int, size: int | None, background: tuple[int, int, int]
) -> np.ndarray:
    if not images:
        return np.empty((0, channels, size or 1, size or 1), dtype=np.uint8)
    arrays = []
    for index, image in enumerate(images):
        if isinstance(image, Image.Image):
            arrays.append(_pixels(image, channels, size, background))
        elif isinstance(image, Tensor | np.ndarray):
            arrays.append(np.asarray(image.cpu() if isinstance(image, Tensor) else image))
        else:
            raise UserError(f"predict: image {index} of the list: expected {_ACCEPTED}, got {short(image)}")
        if arrays[-1].shape != arrays[0].shape:
            problem = f"image {index} has shape {arrays[-1].shape}, image 0 {arrays[0].shape}"
            raise UserError(f"predict: {problem}; all images of a list must have one shape")
    return np.stack(arrays)


def _pixels(image: Image.Image, channels: int, size: int | None, background: tuple[int, int, int]) -> np.ndarray:
    """A PIL image as the folder of a training is read: uint8, channels x size x size."""
    if image.mode[0] in "IF":
        raise UserError(f"predict: the PIL image has mode {image.mode}; convert it to 8 bits per channel")
    if 0 in image.size:
        raise UserError("predict: the PIL image has no pixels")
    try:
        return pixels_of(image, channels, size, background)
    except Exception as error:  # Pillow reads files when pixels are asked for, and raises many kinds of errors then.
        raise UserError(f"predict: the PIL image cannot be read ({first_line(error)})") from None
