"""The user's folders of images: layouts, formats, sizes, and what is refused."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mgnas.errors import ConfigError
from mgnas.search.data.dataset import Dataset, DataSettings, data_shape, load_dataset
from mgnas.settings import build


def load(name: str, path, **values) -> Dataset:
    return load_dataset(DataSettings(name=name, path=str(path), **values))


def training_images(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """All images that are not for testing, n x channels x size x size, and their labels, in a fixed order."""
    both = dataset.train + dataset.validation
    order = np.lexsort((both.images.reshape(len(both), -1).sum(axis=1), both.labels))
    return both.images[order], both.labels[order]


def picture(*colour: int, size=(8, 8)) -> Image.Image:
    """Grey or coloured all over."""
    return Image.new("L" if len(colour) == 1 else "RGB", size, colour[0] if len(colour) == 1 else colour)


def png(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """file -> image, bytes, or None to leave it out: a new folder with these and two classes, 2 grey images each."""

    def make(files=None, size=(8, 8), below="train") -> Path:
        root = tmp_path / "images"
        content = {f"{below}/{name}/{i}.png": picture(i, size=size) for name in ("cat", "dog") for i in range(2)}
        for file, image in (content | (files or {})).items():
            if image is None:
                continue
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image) if isinstance(image, bytes) else image.save(path)
        return root

    return make


def test_a_folder_has_sorted_classes_and_its_own_test_images(folder):
    files = {"train/bee/1.png": picture(100), "train/bee/0.png": picture(101), "test/dog/x.png": picture(200)}
    dataset = load("folder", folder(files))
    assert dataset.class_names == ("bee", "cat", "dog")
    assert (dataset.num_classes, dataset.in_channels, dataset.image_size) == (3, 1, 8)
    images, labels = training_images(dataset)
    assert images.shape == (6, 1, 8, 8)
    assert (images == np.array([100, 101, 0, 1, 0, 1])[:, None, None, None]).all()
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (dataset.test.images == 200).all()
    assert dataset.test.labels.tolist() == [2]


def test_a_folder_of_classes_has_no_test_images(folder):
    dataset = load("folder", folder(below="."))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.test is None
    assert data_shape(DataSettings(name="folder", path=str(folder(below=".")))) == (2, 1, 8)


def test_other_files_and_hidden_ones_are_no_images_and_no_classes(folder):
    files = {"train/README.txt": b"?", "train/cat/notes.md": b"?", "train/cat/.2.png": b"?", "train/.git/x": b"?"}
    dataset = load("folder", folder(files | {"train/dog/BIG.PNG": picture(9), "annotations/x.png": b"?"}))
    assert dataset.class_names == ("cat", "dog")
    assert len(training_images(dataset)[0]) == 5


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "webp", "tif", "tiff", "ppm"])
def test_every_usual_format_is_read(folder, suffix):
    images, _ = training_images(load("folder", folder({f"train/cat/2.{suffix}": picture(200, 100, 50)})))
    # The image with the largest sum is the last one of its class.
    assert np.abs(images[2].astype(int) - np.array([200, 100, 50])[:, None, None]).max() <= 5


def test_one_coloured_image_makes_all_of_them_rgb(folder):
    dataset = load("folder", folder({"train/cat/2.png": picture(200, 100, 50)}))
    images, _ = training_images(dataset)
    assert dataset.in_channels == 3
    assert (images[2] == np.array([200, 100, 50])[:, None, None]).all()
    assert (images[4] == 1).all()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(picture(200, 100, 50).quantize(4), (200, 100, 50), id="palette"),
        pytest.param(Image.new("RGBA", (8, 8), (200, 100, 50, 255)), (200, 100, 50), id="opaque"),
        # Half of it and half of white.
        pytest.param(Image.new("RGBA", (8, 8), (201, 101, 51, 127)), (228, 178, 153), id="transparent"),
        pytest.param(Image.new("1", (8, 8), 1), (255,), id="black and white"),
        pytest.param(Image.new("LA", (8, 8), (77, 0)), (255,), id="transparent grey"),
    ],
)
def test_every_mode_of_8_bits_becomes_grey_or_rgb(folder, image, expected):
    images, _ = training_images(load("folder", folder({"train/cat/2.png": image})))
    assert images.shape[1] == len(expected)
    assert (images[2] == np.array(expected)[:, None, None]).all()


@pytest.mark.parametrize("size", [(24, 8), (8, 24), (48, 16), (16, 48)])
def test_the_centre_of_an_oblong_image_is_cut_out(folder, size):
    """The middle third is white in the centre, the outer thirds are black."""
    pixels = np.zeros(size[::-1], np.uint8)
    short = min(size)
    pixels[tuple(slice((side - short) // 2, (side + short) // 2) for side in size[::-1])] = 255
    images, _ = training_images(load("folder", folder({"train/cat/2.png": Image.fromarray(pixels)}), image_size=8))
    assert images.shape == (5, 1, 8, 8)
    # A filter that shrinks takes a little from beyond the edge.
    assert (images[2] >= (255 if short == 8 else 240)).all()


def test_images_are_shrunk_without_aliasing(folder):
    # Every other column is white: taking every 8th pixel would give black or white, a proper filter gives grey.
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    images, _ = training_images(load("folder", folder({"train/cat/2.png": Image.fromarray(stripes)}), image_size=8))
    assert np.abs(images[2].astype(int) - 127).max() <= 8


def test_images_that_have_the_size_already_keep_every_pixel(folder):
    noise = np.random.default_rng(0).integers(128, 256, (8, 8), dtype=np.uint8)
    images, _ = training_images(load("folder", folder({"train/cat/2.png": Image.fromarray(noise)}), image_size=8))
    assert np.array_equal(images[2, 0], noise)


def test_a_photograph_on_its_side_is_turned(folder):
    # The left half is white. Orientation 6: turn by 90 degrees clockwise to see it as it was, so the top is white.
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = png(Image.fromarray(pixels), exif=exif)
    images, _ = training_images(load("folder", folder({"train/cat/2.png": turned})))
    assert (images[2, 0, :4] == 255).all()
    assert (images[2, 0, 4:] == 0).all()


NOISE = png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)))


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"train/cat/2.png": picture(0, size=(9, 9))}, "/train/cat/2.png: has 9 x 9 pixels, train/cat/0.png 8 x 8"),
        ({"train/cat/2.png": b""}, "/train/cat/2.png: not a readable image; replace or delete it"),
        ({"train/cat/2.png": b"hello"}, "/train/cat/2.png: not a readable image; replace or delete it"),
        ({"train/cat/2.png": NOISE[:20]}, "/train/cat/2.png: not a readable image"),
        ({"test/cat/2.png": NOISE[:-2000]}, "/test/cat/2.png: not a readable image"),
        ({"train/cat/2.png": Image.new("I;16", (8, 8))}, "/train/cat/2.png: has more than 8 bits per channel"),
        ({"train/cow/x.txt": b""}, ": train/cow: holds no images ("),
        ({"test/cow/0.png": picture(0)}, ": test/cow: is no class, as train/cow is missing"),
        ({"test/x.txt": b""}, ": test: holds no folders of images"),
        ({"val/cow/0.png": picture(0)}, ": val/cow: is no class, as train/cow is missing"),
        ({"val/0.png": picture(0)}, ": val: its images lie in no class folder, so their classes are unknown; move"),
        ({"train/cow/0.png": picture(0)}, ": class cow has 1 image to train on and validate"),
        ({"train/dog/0.png": None, "train/dog/1.png": None}, ": holds 1 folders of images (data.path)"),
    ],
)
def test_an_unusable_folder_is_refused_by_name(folder, refusal, files, problem):
    root = folder(files)
    # With a size for all, those of the damaged images that decode in part would go as far as they can.
    values = {"image_size": 8} if "readable" in problem else {}
    assert refusal(lambda: load("folder", root, **values)).startswith(f"{root}{problem}")


@pytest.mark.parametrize("size", [(8, 9), (7, 7), (1025, 1025)])
def test_images_that_are_no_usable_squares_need_an_image_size(folder, refusal, size):
    root = folder(size=size)
    expected = f"{root}/train/cat/0.png: has {size[0]} x {size[1]} pixels, not a square from 8 x 8 to 1024 x 1024"
    assert refusal(lambda: load("folder", root)) == f"{expected}; set data.image_size, e.g. image_size: 32"
    assert load("folder", root, image_size=8).image_size == 8


def test_a_folder_that_is_missing_or_a_file_is_refused(tmp_path, refusal):
    missing = tmp_path / "none"
    assert refusal(lambda: load("folder", missing)) == f"{missing}: no such file or folder (data.path)"
    file = tmp_path / "images.zip"
    file.write_bytes(b"")
    assert refusal(lambda: load("folder", file)).startswith(f"{file}: is no folder (data.path)")


def test_a_broken_link_is_named(folder, refusal):
    root = folder()
    (root / "train" / "cat" / "2.png").symlink_to("nowhere")
    assert refusal(lambda: load("folder", root)) == (f"{root}/train/cat/2.png: no such file or folder (data.path)")


def test_validation_images_of_the_folder_are_used_and_none_held_out(folder):
    files = {"Valid/dog/x.png": picture(150), "Test/cat/x.png": picture(200), "train/cat/gif/2.png": picture(9)}
    dataset = load("folder", folder(files), validation_fraction=0.5)
    assert len(dataset.train) == 5
    assert dataset.own_validation
    assert (dataset.validation.images == 150).all()
    assert dataset.validation.labels.tolist() == [1]
    assert (dataset.test.images == 200).all()


def test_one_training_image_is_enough_if_none_is_held_out(folder):
    files = {"train/cow/0.png": picture(9), "val/cow/0.png": picture(8)}
    assert load("folder", folder(files)).train.labels.tolist() == [0, 0, 1, 2, 2]


def test_files_that_are_passed_over_are_counted_once(folder, caplog):
    root = folder({"train/cat/2.gif": b"", "train/dog/a/3.gif": b"", "train/dog/4.heic": b"", "extra/x.png": b""})
    load("folder", root)
    load_dataset.cache_clear()
    load("folder", root)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line == f"{root}: not read: 2 .gif, 1 .heic; the folder extra"


def test_a_single_damaged_image_of_another_split_is_found_with_the_others(folder, refusal):
    root = folder({"train/cat/2.png": NOISE[:-2000], "test/dog/1.png": NOISE[:-2000], "val/dog/1.png": b""})
    message = refusal(lambda: load("folder", root, image_size=8))
    named = "train/cat/2.png, test/dog/1.png, val/dog/1.png"
    assert message == f"{root}: 3 images cannot be read; replace or delete them: {named}"


def test_every_background_has_images_of_its_own(folder):
    icon = Image.new("RGBA", (8, 8), 0)
    root = folder({"train/cat/2.png": icon})
    last = {name: load("folder", root, background=name) for name in (None, "white", "black", "#ff8000")}
    assert {name: sorted(training_images(dataset)[0].reshape(5, -1).sum(1))[-1] for name, dataset in last.items()} == {
        None: 3 * 64 * 255,
        "white": 3 * 64 * 255,
        "black": 3 * 64,
        "#ff8000": 64 * (255 + 128),
    }


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": "folder", "path": "x", "background": "blurple"}, "expected the name of a colour or '#rrggbb', got"),
        ({"name": "npz", "path": "x", "background": "white"}, "has no effect for npz, only for folder; drop it"),
    ],
)
def test_a_background_that_cannot_be_used_is_refused(values, problem):
    with pytest.raises(ConfigError, match=rf"^data\.background: {problem}"):
        build(DataSettings, values, "data")


def test_images_that_are_all_equal_are_refused_before_anything_is_trained(folder, refusal):
    icon = Image.new("RGBA", (8, 8), 0)
    root = folder({f"train/{name}/{i}.png": icon for name in ("cat", "dog") for i in range(2)})
    message = refusal(lambda: data_shape(DataSettings(name="folder", path=str(root), background="black")))
    assert message.startswith(f"{root}: all images are equal, so there is nothing to learn; check")
    assert "data.background" in message


def test_a_path_that_is_not_utf_8_is_refused(tmp_path, refusal):
    message = refusal(lambda: load("folder", tmp_path / "caf\udce9"))
    assert message == f"{tmp_path}/caf\\xe9: the name is not UTF-8 (data.path); rename the file or folder"


def test_a_folder_needs_a_path():
    with pytest.raises(ConfigError, match=r"^data\.path: is required for folder"):
        build(DataSettings, {"name": "folder"}, "data")


MODES = st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"])
KINDS = st.sampled_from(["png", "jpeg", "tiff", "webp", "bmp", "gif"])


@settings(max_examples=150)
@given(
    images=st.lists(st.tuples(MODES, KINDS, st.integers(1, 20), st.integers(1, 20)), min_size=2, max_size=6),
    size=st.sampled_from([None, 8, 16]),
    background=st.sampled_from([None, "#ff0000"]),
)
def test_any_images_are_read_or_refused_in_one_line(new_path, outcome, images, size, background):
    root = new_path("images")
    for number, (mode, kind, width, height) in enumerate(images):
        file = root / "ab"[number % 2] / f"{number}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new(mode, (width, height))
        with contextlib.suppress(OSError, ValueError):  # Not every format has every mode.
            image.save(file, kind)
    data = DataSettings(name="folder", path=str(root), image_size=size, background=background)
    text = outcome(lambda: load_dataset(data))
    if text != "fine":
        assert text.startswith(f"{root}")
        assert len(text.splitlines()) == 1
        return
    dataset = load_dataset(data)
    assert dataset.image_size == (size or images[0][2])
    assert dataset.in_channels in (1, 3)
    assert dataset.train.images.dtype == np.uint8
