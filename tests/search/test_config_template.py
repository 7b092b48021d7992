import math

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mgnas.errors import UserError
from mgnas.search.config import SearchConfig
from mgnas.search.config_template import detect_dataset, photo_size, render_config
from mgnas.search.data.dataset import Dataset, DataSettings, load_dataset
from mgnas.search.data.images import ImageDataset
from mgnas.space.search_space import SearchSpace


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
    [
        ([(32, 32)], None),
        ([(30, 30)], None),
        ([(40, 30), (50, 60)], 32),
        ([(20, 30)], 32),
        ([(200, 100)], 96),
        ([(128, 128)], None),
        ([(300, 200), (150, 170), (200, 160)], 160),
        ([(640, 480), (480, 640)], 224),
        ([(256, 256)], 224),
    ],
)
def test_size_is_that_of_the_images_or_a_usual_one(tmp_path, sizes, expected):
    assert detect_dataset(str(folder_of(tmp_path, sizes, 3))).image_size == expected


def blank(size, classes, images, channels):
    """A data set of black images that takes no memory; a fifth of them is held out."""

    def part(count):
        pixels = np.broadcast_to(np.uint8(0), (count, channels, size, size))
        return ImageDataset(pixels, np.broadcast_to(np.int64(0), count))

    held_out = max(images // 5, 1)
    return Dataset(part(images - held_out), part(held_out), None, tuple(map(str, range(classes))))


def rendered(size, classes, images, channels):
    """The config for blank images of a folder, read back."""
    data = DataSettings(name="folder", path="photos", image_size=size)
    text = render_config("x", data, blank(size, classes, images, channels))
    return SearchConfig.from_mapping(yaml.safe_load(text))


@given(st.floats(8, 4000), st.floats(8, 4000), st.integers(1, 10**7), st.integers(1, 10**7))
def test_photographs_have_at_most_their_own_pixels_and_fewer_if_there_are_many(side, other, images, more):
    size = photo_size(side, images)
    assert size in (32, 64, 96, 128, 160, 224)
    assert size <= max(side, 32)
    assert size <= 64 or images * size**2 <= 500e6
    assert photo_size(max(side, other), images) >= photo_size(min(side, other), images)
    assert photo_size(side, max(images, more)) <= photo_size(side, min(images, more))


@pytest.mark.parametrize(
    ("images", "expected"),
    [(9_964, 224), (9_965, 160), (19_531, 160), (19_532, 128), (30_517, 128), (30_518, 96), (54_253, 96), (54_254, 64)],
)
def test_photographs_together_have_at_most_500_million_pixels(images, expected):
    assert photo_size(300, images) == expected


@settings(max_examples=30)
@example(8, 5000, 20, 1)
@example(8, 2, 1_000_000, 3)
@example(15, 5000, 1_000_000, 3)
@example(512, 5000, 20, 3)
@example(512, 2, 1_000_000, 1)
@example(1024, 100, 999, 3)
@given(st.integers(8, 512), st.integers(2, 5000), st.integers(20, 1_000_000), st.sampled_from([1, 3]))
def test_every_proposal_has_networks_of_several_sizes_and_most_weights_are_left_to_the_body(
    size, classes, images, channels
):
    config = rendered(size, classes, images, channels)
    space = SearchSpace(config.space, config.training, num_classes=classes, in_channels=channels, image_size=size)
    assert space.enumerable
    rng = np.random.default_rng(0)
    candidates = [space.sample(rng) for _ in range(40)]
    weights = sorted({candidate.weights for candidate in candidates})
    assert len(weights) >= 10
    heads = {candidate.id: classes * (candidate.architecture.channels[-1] + 1) for candidate in candidates}
    bodies = [candidate.weights - heads[candidate.id] for candidate in candidates]
    assert max(bodies) > 3 * min(bodies)
    assert 4 * max(heads.values()) <= space.limits.max_weights


def test_photographs_get_strided_stems_and_resized_crops():
    config = rendered(160, 10, 5_000, 3)
    assert config.space["parameters"]["stem_stride"] == [2, 4]
    assert max(map(len, config.space["parameters"]["base_channels"])) == 6
    assert config.space["limits"] == {"max_weights": "500k", "max_macs": "150M"}
    assert (config.training.random_resized_crop, config.training.crop_padding, config.training.flip) == (0.35, 0, True)
    assert config.final_training.random_resized_crop == 0.25
    grey = rendered(160, 10, 5_000, 1)
    assert (grey.training.random_resized_crop, grey.training.crop_padding, grey.training.flip) == (0, 20, False)
    assert grey.space == config.space


@pytest.mark.parametrize(
    ("size", "strides"), [(32, None), (64, [1, 2]), (96, [1, 2, 4]), (128, [2, 4]), (224, [2, 4]), (512, [4])]
)
def test_the_stem_leaves_24_to_112_pixels_per_side(size, strides):
    assert rendered(size, 10, 5_000, 3).space["parameters"].get("stem_stride") == strides


def test_small_images_get_wide_kernels_and_depthwise_groups():
    parameters = rendered(32, 10, 50_000, 3).space["parameters"]
    assert (parameters["group_size"], parameters["kernel_size"]) == ([1, 4, 8], [3, 5, 7])
    assert parameters["smoother"] == ["learned", "polynomial"]
    assert rendered(28, 10, 50_000, 1).space["parameters"]["kernel_size"] == [3, 5]
    assert not {"kernel_size", "smoother", "stem_stride"} & rendered(8, 10, 50_000, 3).space["parameters"].keys()


@pytest.mark.parametrize(
    ("images", "epochs", "final"),
    [(100, 120, 360), (200, 60, 180), (1_000, 30, 90), (40_000, 10, 60), (1_000_000, 3, 15)],
)
def test_few_images_are_trained_on_for_more_epochs(images, epochs, final):
    config = rendered(64, 10, images, 3)
    assert (config.training.epochs, config.final_training.epochs) == (epochs, final)


def test_few_images_get_smaller_networks():
    few, many = rendered(64, 10, 900, 3), rendered(64, 10, 90_000, 3)
    assert (few.space["limits"]["max_weights"], many.space["limits"]["max_weights"]) == ("100k", "500k")
    assert (few.space["parameters"]["channel_scaling"], many.space["parameters"]["channel_scaling"]) == (
        [0.5, 1],
        [0.5, 1, 2],
    )


@pytest.mark.parametrize(
    # The widest networks have 64, 256 and 128 channels in front of the last layer, which has a bias, too.
    ("size", "classes", "images", "channels", "budget"),
    [
        (8, 3_000, 9_000, 64, "780k"),
        (32, 5_000, 90_000, 256, "5.2M"),
        (64, 300, 800, 128, "155k"),
        (8, 2, 99, 64, "30k"),
    ],
)
def test_the_last_layer_takes_at_most_a_quarter_of_the_weights(size, classes, images, channels, budget):
    expected = 4 * classes * (channels + 1)
    assert rendered(size, classes, images, 3).space["limits"]["max_weights"] == budget
    assert budget == "30k" or math.isclose(
        float(budget[:-1]) * {"k": 1e3, "M": 1e6}[budget[-1]], expected, rel_tol=0.02
    )


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


def test_limits_of_memory_need_only_be_uncommented(tmp_path):
    data = DataSettings(name="digits")
    text = render_config("x", data, load_dataset(data))
    limits = SearchConfig.from_mapping(yaml.safe_load(text.replace("    # max_", "    max_"))).search_space().limits
    assert (limits.max_macs, limits.max_activation_memory_int8, limits.max_flash_int8) == (20_000_000, 128_000, 256_000)


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


def test_photographs_of_several_sizes_can_be_searched(tmp_path):
    data = detect_dataset(str(folder_of(tmp_path, [(131, 101), (97, 160), (96, 99)])))
    assert data.image_size == 96
    config = proposed(tmp_path, data)
    assert config.training.random_resized_crop > 0
    space = config.search_space()
    assert (space.image_size, space.fixed["in_channels"]) == (96, 3)
    assert len(space.summary().weights) > 500
