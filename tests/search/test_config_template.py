import numpy as np
import pytest
import yaml
from PIL import Image

from mgnas.errors import UserError
from mgnas.search.config import SearchConfig
from mgnas.search.config_template import detect_dataset, render_config
from mgnas.search.data.dataset import DataSettings, load_dataset


def folder_of(tmp_path, sizes, count=12):
    """Three classes of images of these sizes (width, height), in turn."""
    place = tmp_path / "my photos"
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (place / name).mkdir(parents=True)
        for index in range(count):
            width, height = sizes[index % len(sizes)]
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"{index}.png")
    return place


def proposed(tmp_path, data):
    file = tmp_path / "proposed.yaml"
    file.write_text(render_config("proposed", data, load_dataset(data)))
    return SearchConfig.load(file)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(32, 32)], None), ([(30, 30)], None), ([(40, 30), (50, 60)], 32), ([(200, 100)], 64), ([(128, 128)], 64)],
)
def test_size_is_that_of_the_images_or_a_usual_one(tmp_path, sizes, expected):
    assert detect_dataset(str(folder_of(tmp_path, sizes, 3))).image_size == expected


def test_the_template_is_a_search_of_the_images(tmp_path):
    data = detect_dataset(str(folder_of(tmp_path, [(40, 30), (30, 40)])))
    config = proposed(tmp_path, data)
    assert config.data == data
    assert config.training.flip
    assert config.search_space().fixed["num_classes"] == 3
    assert len(config.search_space().summary().weights) > 20


def test_grey_images_are_not_mirrored(tmp_path):
    config = proposed(tmp_path, DataSettings(name="digits"))
    assert not config.training.flip
    assert config.space["limits"]["max_weights"] == "30k"
    assert config.training.batch_size == 64


def test_every_setting_has_a_comment_and_every_path_is_quoted(tmp_path):
    place = tmp_path / "it's: here #1"
    place.mkdir()
    file = place / "x.npz"
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    np.savez(file, train_images=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), train_labels=labels)
    data = detect_dataset(str(file))
    text = render_config("x", data, load_dataset(data))
    assert yaml.safe_load(text)["data"] == {"name": "npz", "path": str(file)}
    settings = [line for line in text.splitlines() if ": " in line and not line.lstrip().startswith("#")]
    assert sum(" # " in line for line in settings) >= 15


def test_known_sets_and_their_folders(tmp_path):
    assert detect_dataset("cifar10").name == "cifar10"
    (tmp_path / "cifar-100-python").mkdir()
    assert detect_dataset(str(tmp_path)) == DataSettings(name="cifar100", path=str(tmp_path))
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    (tiny / "wnids.txt").write_text("")
    assert detect_dataset(str(tiny)).name == "tinyimagenet"


def test_other_paths_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such file or folder, nor a data set that mgnas knows \(digits"):
        detect_dataset("nowhere")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(UserError, match="expected a folder of class folders"):
        detect_dataset(str(tmp_path / "x.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images in it; expected a folder for each class"):
        detect_dataset(str(tmp_path / "empty"))
