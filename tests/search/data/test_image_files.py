"""Images in files: orientation, transparency, and what is said of damaged ones."""

import io
import logging
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgnas.search.data import file_tree
from mgnas.search.data.file_tree import FolderTree
from mgnas.search.data.image_files import LazyImageFiles, common_shape, parse_colour


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def tree(new_path):
    """Contents of files -> a new folder with them, named 0, 1, ..."""

    def make(*contents: bytes) -> FolderTree:
        root = new_path("images")
        root.mkdir()
        for number, content in enumerate(contents):
            (root / str(number)).write_bytes(content)
        return FolderTree(root)

    return make


def decoded(tree: FolderTree, **options) -> np.ndarray:
    """All images, as a data set of such a folder would hold them."""
    files = sorted((file.name for file in tree.root.iterdir()), key=int)
    channels, size, large = common_shape(tree, files, None, **options)
    return LazyImageFiles(files, tree, channels, size, fit=True, large=large, **options)[:]


# --------------------------------------------------------------------------------------------------------- orientation

UPRIGHT = np.array([[0, 60], [120, 250]], np.uint8).repeat(8, 0).repeat(8, 1)
# What a camera stores so that the EXIF orientation makes it upright again, by the standard's table of rows and columns.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
def test_every_orientation_is_turned_upright_once(tree, orientation, kind):
    options = {"quality": 100} if kind in ("jpeg", "webp") else {}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    images = decoded(tree(encoded(stored, kind, exif=exif_of(orientation), **options)))
    assert np.abs(images[0, 0].astype(int) - UPRIGHT).max() <= 4


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_an_oblong_image_on_its_side_has_the_size_that_it_shows(tree, refusal, kind):
    content = encoded(Image.new("L", (16, 8)), kind, exif=exif_of(6))
    assert "0: has 8 x 16 pixels, not a square" in refusal(lambda: decoded(tree(content)))


def odd_exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data of (tag, type, number of values, their bytes), whatever the standard says of them."""
    head, tail = b"", b""
    offset = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in entries:
        value = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", offset + len(tail))
        tail += data if len(data) > 4 else b""
        head += struct.pack("<HHI", tag, kind, count) + value
    body = struct.pack("<H", len(entries)) + head + struct.pack("<I", 0) + tail
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + body


SIXTH = (0x0112, 3, 1, struct.pack("<H", 6))


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(odd_exif(SIXTH, (0x011A, 10, 1, struct.pack("<ii", -72, 1))), id="signed resolution"),
        pytest.param(odd_exif(SIXTH, (0x011A, 5, 1, struct.pack("<II", 72, 0))), id="resolution over zero"),
        pytest.param(odd_exif(SIXTH, (0x010E, 2, 3, b"\xff\xfe\0")), id="text that is none"),
        pytest.param(odd_exif(SIXTH, (0x8769, 4, 1, struct.pack("<I", 99_999))), id="a part beyond the end"),
        pytest.param(odd_exif(SIXTH, (0x9999, 77, 1, b"abcd")), id="a type that there is not"),
    ],
)
def test_of_odd_exif_data_the_orientation_alone_is_used(tree, exif):
    stored = Image.fromarray(np.ascontiguousarray(STORED[6]))
    images = decoded(tree(encoded(stored, "jpeg", exif=exif, quality=100)))
    assert np.abs(images[0, 0].astype(int) - UPRIGHT).max() <= 4


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0nonsense",
        odd_exif((0x0112, 3, 1, struct.pack("<H", 99))),
        odd_exif((0x0112, 2, 2, b"6\0")),
        odd_exif((0x0112, 5, 1, struct.pack("<II", 6, 0))),
    ],
)
def test_an_image_without_a_usable_orientation_is_upright(tree, exif):
    images = decoded(tree(encoded(Image.fromarray(UPRIGHT), "jpeg", exif=exif, quality=100)))
    assert np.abs(images[0, 0].astype(int) - UPRIGHT).max() <= 4


@pytest.mark.filterwarnings("error::UserWarning")
@given(data=st.binary(max_size=60))
def test_no_exif_data_make_an_image_unreadable(tree, data):
    content = encoded(Image.fromarray(UPRIGHT), "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0" + data, quality=100)
    assert decoded(tree(content)).shape == (1, 1, 16, 16)


# -------------------------------------------------------------------------------------------------------- transparency


def drawing(mode: str = "RGBA") -> Image.Image:
    """An icon: black everywhere, and opaque in its left half only."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:, :4] = 255
    image = Image.new("L" if mode == "LA" else "RGB", (8, 8), 0)
    image.putalpha(Image.fromarray(alpha))
    return image


def with_colour_key(mode: str) -> bytes:
    """Black is transparent; the left half is another colour."""
    image = Image.new(mode, (8, 8), 0)
    image.paste({"P": 1, "L": 90, "RGB": (90, 90, 90)}[mode], (0, 0, 4, 8))
    if mode == "P":
        image.putpalette([0, 0, 0, 90, 90, 90])
    return encoded(image, transparency=(0, 0, 0) if mode == "RGB" else 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("background", "shown"), [("white", 255), ("black", 0), ("#808080", 128)])
def test_a_drawing_in_the_alpha_channel_is_seen_on_its_background(tree, mode, background, shown):
    images = decoded(tree(encoded(drawing(mode))), background=parse_colour(background))
    assert images.shape[1] == {"RGBA": 3, "LA": 1}[mode]
    assert (images[..., :4] == 0).all()
    assert (images[..., 4:] == shown).all()


@pytest.mark.parametrize("kind", ["webp", "tiff"])
def test_transparency_is_seen_in_every_format_that_has_it(tree, kind):
    options = {"lossless": True} if kind == "webp" else {}
    images = decoded(tree(encoded(drawing(), kind, **options)))
    assert (images[..., :4] == 0).all()
    assert (images[..., 4:] == 255).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_is_transparent_shows_the_background(tree, mode):
    images = decoded(tree(with_colour_key(mode)))
    assert images.shape[1] == (1 if mode == "L" else 3)
    assert (images[..., :4] == 90).all()
    assert (images[..., 4:] == 255).all()


def test_a_coloured_background_makes_grey_images_rgb(tree):
    images = decoded(tree(encoded(drawing("LA")), encoded(Image.new("L", (8, 8), 7))), background=(200, 100, 50))
    assert (images[0, :, :, 4:] == np.array([200, 100, 50])[:, None, None]).all()
    assert (images[1] == 7).all()


@given(colour=st.tuples(*[st.integers(0, 255)] * 3), alpha=st.integers(0, 255))
def test_half_transparent_pixels_are_mixed_with_white(tree, colour, alpha):
    images = decoded(tree(encoded(Image.new("RGBA", (8, 8), (*colour, alpha)))))
    expected = 255 + (np.array(colour) - 255) * alpha / 255
    assert np.abs(images[0, :, 0, 0] - expected).max() <= 1
    if alpha in (0, 255):
        assert images[0, :, 0, 0].tolist() == list(colour if alpha else (255, 255, 255))


@pytest.mark.parametrize(("text", "colour"), [("white", (255, 255, 255)), ("#0a0B0c", (10, 11, 12))])
def test_a_colour_is_a_name_or_hexadecimal(text, colour):
    assert parse_colour(text) == colour


# ------------------------------------------------------------------------------------------------------------- damaged

FINE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)))


def test_one_damaged_image_is_one_line(tree, refusal, caplog):
    folder = tree(FINE, b"hello", FINE)
    assert refusal(lambda: decoded(folder)) == f"{folder.root}/1: not a readable image; replace or delete it"
    assert caplog.records == []


@pytest.mark.parametrize("damaged", [5, 20, 23])
@pytest.mark.parametrize("cut", [0, 20, len(FINE) - 1000], ids=["empty", "header", "pixels"])
def test_all_damaged_images_are_named_at_once(tree, refusal, caplog, damaged, cut):
    folder = tree(FINE, *damaged * [FINE[:cut]], FINE)
    with caplog.at_level(logging.WARNING):
        message = refusal(lambda: decoded(folder))
    named = min(damaged, 20)
    numbers = ", ".join(str(number) for number in range(1, named + 1))
    more = f" and {damaged - 20} more" if damaged > 20 else ""
    assert message == f"{folder.root}: {damaged} images cannot be read; replace or delete them: {numbers}{more}"
    assert len(caplog.messages) == named
    for number, line in enumerate(caplog.messages, 1):
        assert line.startswith(f"{folder.root}/{number}: not a readable image")
        assert len(line.splitlines()) == 1


def test_images_damaged_in_different_ways_are_named_together(tree, refusal):
    deep = encoded(Image.new("I;16", (64, 64)))
    message = refusal(lambda: decoded(tree(FINE, b"", FINE[:-1000], deep)))
    assert message.endswith(": 3 images cannot be read; replace or delete them: 1, 2, 3")


@pytest.mark.filterwarnings("error::UserWarning")
@given(share=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255), kind=st.sampled_from(["png", "jpeg"]))
def test_a_damaged_image_is_read_or_refused_in_one_line(tree, outcome, share, flipped, kind):
    content = encoded(Image.fromarray(UPRIGHT), kind, exif=exif_of(6))
    place = int(share * len(content))
    content = content[:place] + bytes([content[place] ^ flipped]) + content[place + 1 :]
    assert len(outcome(lambda: decoded(tree(content))).splitlines()) == 1


# ---------------------------------------------------------------------------------------------------------- large ones


@pytest.mark.parametrize("width", [10_001, 20_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(tree, refusal, width):
    content = encoded(Image.new("1", (width, 10_000)))
    assert len(content) < 100_000, "a bomb"
    folder = tree(FINE, content)
    expected = f"{folder.root}/1: has more than 100 megapixels; scale it down, or replace it if it is no photograph"
    assert refusal(lambda: decoded(folder)) == expected


def test_several_huge_images_are_read(tree):
    content = encoded(Image.new("L", (5000, 4000), 7))
    folder = tree(content, content, content)
    channels, size, large = common_shape(folder, ["0", "1", "2"], 32)
    images = LazyImageFiles(["0", "1", "2"], folder, channels, size, fit=True, large=large)[:]
    assert images.shape == (3, 1, 32, 32)
    assert (images == 7).all()


def test_a_file_of_too_many_bytes_is_refused(tree, refusal, monkeypatch):
    monkeypatch.setattr(file_tree, "MAX_FILE_BYTES", len(FINE) - 1)
    folder = tree(FINE)
    message = refusal(lambda: decoded(folder))
    assert message.startswith(f"{folder.root}/0: holds more than 0.00")
    assert message.endswith(" MB; replace or delete it")
