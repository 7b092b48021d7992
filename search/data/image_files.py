"""Images in files: decoding them to arrays of one size."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TypeVar

import numpy as np
from PIL import Image, ImageColor, ImageOps

from mgnas.errors import UserError, printable
from mgnas.machine import usable_cores

from .file_tree import FileTree

logger = logging.getLogger(__name__)

WHITE = (255, 255, 255)
_GREY = {"1", "L", "LA", "La"}
_TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}
_LARGE = 256 * 256
_MAX_MEGAPIXELS = 100
_HUGE_MEGAPIXELS = 16
_ONE_AT_A_TIME = threading.Lock()
"""Held while an image of more than _HUGE_MEGAPIXELS is decoded, which takes up to 12 bytes a pixel."""
_NAMED = 20
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what shows the image upright."""

T = TypeVar("T")


def parse_colour(text: str | None) -> tuple[int, int, int]:
    """Red, green and blue, from 0 to 255, of a colour by its name or as #rrggbb; None: white.

    Raises:
        ValueError: there is no such colour.
    """
    red, green, blue, *_ = WHITE if text is None else ImageColor.getrgb(text)
    return red, green, blue


class LazyImageFiles:
    """Images that are decoded from their files when they are read (see LazyImages).

    Args:
        files: the file of each image.
        tree: the folder or archive that holds the files.
        channels: 1 or 3.
        size: pixels per side.
        fit: resize and crop images of another size, instead of refusing them.
        large: decode on all cores. For small images several threads take twice as long as one.
        background: the colour, red, green and blue, that transparent pixels show.
        together: the files that are looked at if one is damaged, so that all damaged ones are named. Default: `files`.
    """

    def __init__(
        self,
        files: Sequence[str],
        tree: FileTree,
        channels: int,
        size: int,
        fit: bool = False,
        large: bool = False,
        background: tuple[int, int, int] = WHITE,
        together: Sequence[str] | None = None,
    ) -> None:
        self._files, self._tree, self._fit, self._large, self._background = files, tree, fit, large, background
        self._together = files if together is None else together
        self.shape = (len(files), channels, size, size)

    def __getitem__(self, indices: slice, /) -> np.ndarray:
        try:
            return np.stack(_for_each(self._decoded, self._files[indices], self._large))
        except _DamagedImageError:
            raise _all_damaged(self._tree, self._together, self._decoded, self._large) from None

    def _decoded(self, file: str) -> np.ndarray:
        _, channels, size, _ = self.shape

        def decode(image: Image.Image) -> np.ndarray:
            return pixels_of(image, channels, size if self._fit else None, self._background)

        pixels = _with_image(self._tree, file, decode)
        if pixels.shape[1:] != (size, size):
            shape = f"{pixels.shape[2]} x {pixels.shape[1]}"
            raise UserError(f"{self._tree.root}/{file}: has {shape} pixels; expected {size} x {size}")
        return pixels


def pixels_of(
    image: Image.Image, channels: int, size: int | None, background: tuple[int, int, int] = WHITE
) -> np.ndarray:
    """The pixels of an image with 8 bits per channel: uint8, channels x height x width.

    Args:
        image: of any mode. What is transparent shows the background, and its EXIF data say how it is turned upright.
        channels: 1 or 3.
        size: pixels per side. The shorter side is resized to it, and the centre is cut out. None: as the image is.
        background: red, green and blue.
    """
    image.load()  # Pillow turns TIFF images when it loads them.
    # Photographs may be stored sideways, with their orientation in the EXIF data.
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    image = _opaque(image, background).convert("L" if channels == 1 else "RGB")
    if size is not None:
        # Pillow's filters do not alias.
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def common_shape(
    tree: FileTree, files: Sequence[str], image_size: int | None, background: tuple[int, int, int] = WHITE
) -> tuple[int, int, bool]:
    """(channels, pixels per side, whether there are large images), from the headers of the files.

    If all images are greyscale they keep their one channel, otherwise all become RGB.

    Args:
        tree: the folder or archive that holds the files.
        files: of the images.
        image_size: the wanted pixels per side. None: the images' own size, which must be the same for all.
        background: the colour that transparent pixels show.

    Raises:
        UserError: images are damaged, or sizes differ and there is no `image_size`.
    """
    grey_background = len(set(background)) == 1

    def header(image: Image.Image) -> tuple[bool, tuple[int, int]]:
        if image.format == "TIFF" and _orientation(image) >= 5:
            image.load()  # Pillow turns TIFF images when it loads them.
        grey = image.mode in _GREY and (grey_background or not _has_transparency(image))
        width, height = image.size
        # Orientations from 5 on swap width and height.
        return grey, (height, width) if _orientation(image) >= 5 else (width, height)

    try:
        headers = _for_each(lambda file: _with_image(tree, file, header), files)
    except _DamagedImageError:
        decoded = LazyImageFiles(files, tree, 3, image_size or 8, fit=True)._decoded
        raise _all_damaged(tree, files, decoded, large=True) from None
    channels = 1 if all(grey for grey, _ in headers) else 3
    large = max(width * height for _, (width, height) in headers) > _LARGE
    if image_size is not None:
        return channels, image_size, large
    first = headers[0][1]
    for file, (_, (width, height)) in zip(files, headers, strict=True):
        if (width, height) != first:
            has = f"has {width} x {height} pixels, {printable(files[0])} {first[0]} x {first[1]}"
        elif width != height or not 8 <= width <= 1024:
            has = f"has {width} x {height} pixels, not a square from 8 x 8 to 1024 x 1024"
        else:
            continue
        raise UserError(f"{tree.root}/{printable(file)}: {has}; set data.image_size, e.g. image_size: 32")
    return channels, first[0], large


class _DamagedImageError(UserError):
    """A file that holds no image that can be used."""


def _with_image(tree: FileTree, file: str, use: Callable[[Image.Image], T]) -> T:
    """The result of `use` for the image in a file.

    Raises:
        _DamagedImageError: the file, which the message names, is damaged or is no image with 8 bits per channel.
        UserError: the file cannot be read.
    """
    content = tree.read(file)
    where = f"{tree.root}/{printable(file)}"
    try:
        with Image.open(BytesIO(content)) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels <= _MAX_MEGAPIXELS and image.mode[0] not in "IF":
                with _ONE_AT_A_TIME if megapixels > _HUGE_MEGAPIXELS else contextlib.nullcontext():
                    return use(image)
    except Image.DecompressionBombError:
        megapixels = math.inf
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files.
        reason = "" if str(error).startswith("cannot identify") else f" ({' '.join(str(error).split())[:100]})"
        raise _DamagedImageError(f"{where}: not a readable image{reason}; replace or delete it") from None
    if megapixels > _MAX_MEGAPIXELS:
        problem = f"has more than {_MAX_MEGAPIXELS} megapixels"
        raise _DamagedImageError(f"{where}: {problem}; scale it down, or replace it if it is no photograph")
    raise _DamagedImageError(f"{where}: has more than 8 bits per channel; convert it to 8 bits")


def _for_each(use: Callable[[str], T], files: Sequence[str], large: bool = False) -> list[T]:
    """`use(file)` for each file, on all cores for large images, without Pillow's warnings of odd EXIF data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        if not large:
            return [use(file) for file in files]
        with ThreadPoolExecutor(usable_cores()) as threads:
            return list(threads.map(use, files))


def _all_damaged(tree: FileTree, files: Sequence[str], decode: Callable[[str], object], large: bool) -> UserError:
    """The error for damaged images. If there are several, each of the first 20 gets a line in the log."""

    def problem(file: str) -> str | None:
        try:
            decode(file)
        except _DamagedImageError as error:
            return str(error)
        return None

    reasons = zip(files, _for_each(problem, files, large), strict=True)
    problems = {printable(file): reason for file, reason in reasons if reason is not None}
    if len(problems) == 1:
        return UserError(*problems.values())
    named = list(problems)[:_NAMED]
    for file in named:
        logger.warning("%s", problems[file])
    more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return UserError(
        f"{tree.root}: {len(problems)} images cannot be read; replace or delete them: {', '.join(named)}{more}"
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, from 1 (upright) to 8. Other EXIF data are not looked at, as they may be damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises many kinds of errors on damaged EXIF data.
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _has_transparency(image: Image.Image) -> bool:
    return image.mode in _TRANSPARENT or "transparency" in image.info


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The image over a background of one colour. An image without transparency is returned as it is."""
    if not _has_transparency(image):
        return image
    if image.mode == "La":  # Pillow converts it to no other mode.
        image = image.convert("LA")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
