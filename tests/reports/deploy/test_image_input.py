import struct

import numpy as np
import pytest
import torch
from PIL import Image

from mgnas.reports.deploy.image_input import as_images


def test_a_pil_image_is_resized_by_its_shorter_side_and_cut_to_the_centre():
    image = Image.new("L", (32, 16), 0)
    image.paste(200, (8, 0, 24, 16))
    found = as_images(image, 1, 8)
    assert (found.shape, found.dtype) == ((1, 1, 8, 8), np.uint8)
    assert found.min() > 180, "the black sides are cut off; the filter's ends show them a little"


def test_channels_are_those_of_the_network():
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert as_images(red, 3, 8)[0, :, 0, 0].tolist() == [255, 0, 0]
    assert as_images(red, 1, 8)[0, :, 0, 0].tolist() == [76]
    assert as_images(Image.new("L", (8, 8), 9), 3, 8)[0, :, 0, 0].tolist() == [9, 9, 9]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(mode):
    assert (as_images(Image.new(mode, (8, 8)), 3, 8) == 255).all()
    palette = Image.new("P", (8, 8), 0)
    palette.info["transparency"] = 0
    assert (as_images(palette, 3, 8) == 255).all()


def test_a_photograph_that_is_stored_sideways_is_turned(tmp_path):
    image = Image.new("L", (8, 8), 0)
    image.putpixel((0, 0), 255)
    exif = image.getexif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise: the upper left corner is the upper right one then.
    assert as_images(image, 1, 8)[0, 0, 0, 7] == 255
    image.save(tmp_path / "sideways.png", exif=exif)
    with Image.open(tmp_path / "sideways.png") as file:
        assert as_images(file, 1, 8)[0, 0, 0, 7] == 255
        assert file.getexif()[0x0112] == 6, "the user's image stays as it is"


def test_damaged_exif_data_beside_the_orientation_do_not_matter(tmp_path):
    """As some cameras write: a resolution that is a signed rational."""
    tags = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x011A, 10, 1, 38)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + tags + struct.pack(">I", 0) + struct.pack(">ii", -72, 1)
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (0, 0, 8, 8))
    image.save(tmp_path / "odd.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "odd.jpg") as file:
        found = as_images(file, 1, None)
    assert found.shape == (1, 1, 16, 8)
    assert found[0, 0, :8].min() > 200


def test_lists_without_images_and_empty_arrays_are_no_images():
    assert as_images([], 3, 8).shape == (0, 3, 8, 8)
    assert len(as_images(np.empty((0, 1, 5, 5), np.uint8), 1, 8)) == 0


def test_any_size_will_do_if_that_of_the_training_is_not_known():
    assert as_images(np.zeros((1, 1, 9, 7), np.uint8), 1, None).shape == (1, 1, 9, 7)
    assert as_images(Image.new("L", (9, 7)), 1, None).shape == (1, 1, 7, 9)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (None, "got None"),
        ("cat.png", "got 'cat.png'; open a file with PIL.Image.open"),
        (3, "got 3"),
        ((part for part in "ab"), "got <generator"),
        ({"images": 1}, "got {'images': 1}"),
        (b"PNG", "got b'PNG'"),
        (["cat.png"], "image 0 of the list: expected"),
        ([Image.new("L", (8, 8)), None], "image 1 of the list: expected"),
        ([[1, 2], [3, 4]], "image 0 of the list: expected"),
        (
            [np.zeros((1, 8, 8), np.uint8), np.zeros((1, 9, 9), np.uint8)],
            "image 1 has shape (1, 9, 9), image 0 (1, 8, 8)",
        ),
        ([np.zeros((8, 8), np.uint8)], "expected uint8 images of shape n x 1 x h x w, got uint8 of shape (1, 8, 8)"),
        ([np.zeros((8, 8, 1), np.uint8)] * 2, "got uint8 of shape (2, 8, 8, 1)"),
        (np.zeros((1, 1, 8, 8), object), "got object of shape (1, 1, 8, 8)"),
        (np.zeros((1, 1, 8, 8), bool), "got bool of shape"),
        (np.zeros((1, 1, 8, 8), np.int8), "got int8 of shape"),
        (torch.zeros(1, 1, 8, 8), "got float32 of shape"),
        (np.uint8(3), "got"),
        (np.zeros((2, 1, 16, 8), np.uint8), "have 8 x 16 pixels, and the network was trained on 8 x 8; resize them"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "have 4 x 4 pixels"),
        (Image.new("I;16", (8, 8)), "has mode I;16; convert it to 8 bits"),
        (Image.new("F", (8, 8)), "has mode F; convert it to 8 bits"),
        (Image.new("L", (0, 8)), "the PIL image has no pixels"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_anything_else_is_one_line(refusal, images, words):
    message = refusal(lambda: as_images(images, 1, 8))
    assert message.startswith("predict: ")
    assert words in message


def test_a_damaged_file_is_one_line(tmp_path, refusal):
    Image.effect_noise((64, 64), 50).save(tmp_path / "cat.png")
    content = (tmp_path / "cat.png").read_bytes()
    (tmp_path / "cat.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "cat.png") as image:
        assert "the PIL image cannot be read (" in refusal(lambda: as_images(image, 1, 8))
