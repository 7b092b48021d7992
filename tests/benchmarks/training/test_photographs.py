"""benchmarks/training/photographs.py"""

import numpy as np
import pytest
from photographs import main, write_photographs
from PIL import Image

from mgnas.errors import UserError
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.data.images import ImageDataset


@pytest.fixture
def images():
    """45 plain images of 3 x 8 x 8 pixels of three classes. The pixels of image i are (5 i, 100, 200)."""
    pixels = np.empty((45, 3, 8, 8), np.uint8)
    pixels[:, 0], pixels[:, 1], pixels[:, 2] = 5 * np.arange(45)[:, None, None], 100, 200
    return ImageDataset(pixels, np.arange(45) % 3)


def test_photographs_have_their_class_colours_and_different_sizes(images, tmp_path):
    write_photographs(images, tmp_path / "photos", 40)
    sizes = set()
    for number in range(40):
        with Image.open(tmp_path / "photos" / str(number % 3) / f"{number}.jpg") as photograph:
            assert photograph.mode == ("RGB" if number % 20 else "L")
            assert all(96 <= side <= 224 for side in photograph.size)
            sizes.add(photograph.size)
            if number % 20:
                colour = np.asarray(photograph).reshape(-1, 3).astype(int)
                assert np.abs(colour - (5 * number, 100, 200)).max() <= 3  # as JPEG rounds
    assert len(sizes) > 30
    assert len(list((tmp_path / "photos").rglob("*.jpg"))) == 40


def test_the_same_images_are_written_again_and_a_search_can_use_them(images, tmp_path):
    for name in ("one", "two"):
        write_photographs(images, tmp_path / name, 30)
    one, two = (sorted((tmp_path / name).rglob("*.jpg")) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    data = load_dataset(DataSettings(name="folder", path=str(tmp_path / "one"), image_size=32, validation_fraction=0.2))
    assert (data.num_classes, data.image_size, data.in_channels) == (3, 32, 3)


def test_files_of_others_stay_as_they_are(images, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="is no empty folder; name a new one"):
            write_photographs(images, place, 3)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("count", [0, 46])
def test_a_wrong_count_is_named(images, count, tmp_path):
    with pytest.raises(UserError, match="--images: must be from 1 to 45"):
        write_photographs(images, tmp_path / "photos", count)


def test_a_missing_file_is_one_line_with_status_2(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["photographs.py", str(tmp_path / "none.npz"), str(tmp_path / "photos")])
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "none.npz" in error
    assert error.count("\n") == 1
