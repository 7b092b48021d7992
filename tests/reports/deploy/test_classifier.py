import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import mgnas
from mgnas.errors import UserError
from mgnas.models.config import ArchitectureConfig
from mgnas.reports.deploy.classifier import Classifier, load_model
from mgnas.reports.deploy.export import as_safetensors
from mgnas.reports.deploy.image_input import as_images
from mgnas.reports.deploy.model_card import read_result
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.trainer import Trainer
from mgnas.space.candidate import TrainingSettings


def test_saved_model_runs_no_code_when_loaded(small_model):
    state = torch.load(small_model / "model.pt", weights_only=True)
    assert state["architecture"] == read_result(small_model)["architecture"]


@pytest.mark.parametrize("damage", ["missing", "garbage", "truncated", "foreign"])
def test_unusable_model_file_is_one_line(small_model, tmp_path, damage):
    good = (small_model / "model.pt").read_bytes()
    path = tmp_path / "model.pt"
    if damage == "garbage":
        path.write_bytes(b"hello")
    elif damage == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "foreign":
        torch.save({"something": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"model\.pt: (no such model|is damaged)"):
        load_model(tmp_path)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "foreign"])
def test_unusable_safetensors_is_one_line(folder, tmp_path, damage):
    file = tmp_path / "bad.safetensors"
    if damage == "garbage":
        file.write_bytes(b"hello")
    elif damage == "truncated":
        file.write_bytes(as_safetensors(mgnas.load(folder))[:2000])
    else:
        save_file({"something": torch.zeros(3)}, file)
    with pytest.raises(UserError, match=r"bad\.safetensors: is damaged or no model of mgnas"):
        mgnas.load(file)


def test_loading_imports_no_search(folder):
    heavy = ["ray", "optuna", "botorch", "sklearn", "matplotlib", "pandas"]
    script = (
        "import sys, numpy, mgnas\n"
        f"model = mgnas.load({str(folder)!r})\n"
        "classes = model.predict(numpy.zeros((3, 1, 8, 8), dtype=numpy.uint8))\n"
        f"print(len(classes), [name for name in {heavy} if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "3 []\n"


def test_prediction_in_parts_equals_the_whole(folder, images):
    model = mgnas.load(folder)
    classes = model.predict(images)
    assert len(classes) == 360
    assert torch.equal(classes, model(torch.from_numpy(images)).argmax(dim=1))
    assert len(model.predict(images[:0])) == 0


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 1, 8, 8)), np.zeros((2, 3, 8, 8), dtype=np.uint8), np.zeros((1, 8, 8), dtype=np.uint8)],
    ids=["float", "colour", "one image"],
)
def test_images_of_another_kind_are_refused(folder, images):
    with pytest.raises(UserError, match="expected uint8 images of shape n x 1 x h x w, got "):
        mgnas.load(folder).predict(images)


def test_classifier_normalises_as_the_training_did():
    dataset = load_dataset(DataSettings(name="digits"))
    architecture = ArchitectureConfig(family="mgnet", base_channels=(4,), in_channels=1)
    run = Trainer(architecture, TrainingSettings(epochs=1), dataset.train, None)
    scaled = dataset.train.images / 255
    normalisation = run.normalisation()
    assert normalisation["mean"] == pytest.approx([scaled.mean()], rel=1e-5)
    assert normalisation["std"] == pytest.approx([scaled.std()], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "loader"), [("model.onnx", "onnxruntime.InferenceSession"), ("model.pt2", "torch.export.load")]
)
def test_an_export_for_other_programs_says_what_loads_it(folder, refusal, name, loader):
    (folder / name).write_bytes(b"an export")
    message = refusal(lambda: mgnas.load(folder / name))
    assert message == f"{folder / name}: is an export, which {loader} loads; give the folder of the training"


def test_arrays_of_every_layout_give_the_same_classes(folder, images):
    model = mgnas.load(folder)
    expected = model.predict(images[:5])
    read_only = images[:5].copy()
    read_only.flags.writeable = False
    for same in (
        images[:5][::-1][::-1],
        images[:5, :, ::-1].copy()[:, :, ::-1],
        np.asfortranarray(images[:5]),
        read_only,
        list(images[:5]),
        tuple(torch.from_numpy(images[:5])),
        torch.from_numpy(images[:5]),
    ):
        assert torch.equal(model.predict(same), expected)
    assert torch.equal(model.predict(images[:5][::-1]), expected.flip(0))


def test_pil_images_are_classified_as_arrays_are(folder, images):
    model = mgnas.load(folder)
    pictures = [Image.fromarray(image[0]) for image in images[:5]]
    expected = model.predict(images[:5])
    assert torch.equal(model.predict(pictures), expected)
    assert torch.equal(model.predict(pictures[3]), expected[3:4])
    assert torch.equal(model.predict([picture.convert("RGB") for picture in pictures]), expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_names", ["one"]),
        ("class_names", list(range(10))),
        ("class_names", "0123456789a"),
        ("image_size", "8"),
        ("image_size", True),
        ("image_size", 0),
        ("normalisation", {"mean": [], "std": []}),
        ("normalisation", {"mean": [0.5, 0.5], "std": [1.0, 1.0]}),
        ("normalisation", {"mean": [True], "std": ["x"]}),
        ("normalisation", {"mean": [float("nan")], "std": [1.0]}),
        ("normalisation", {"mean": [0.5], "std": [0.0]}),
        ("normalisation", {"mean": [0.5]}),
        ("normalisation", None),
        ("architecture", None),
        ("architecture", {"family": "mgnet"}),
        ("architecture", {"family": "mgnet", "base_channels": [8, 16], "in_channels": 1, "num_classes": 3}),
        ("weights", {}),
        ("weights", None),
        ("weights", [1, 2]),
    ],
)
def test_a_model_with_a_wrong_value_is_one_line(small_model, tmp_path, refusal, key, value):
    state = torch.load(small_model / "model.pt", weights_only=True)
    torch.save(state | {key: value}, tmp_path / "model.pt")
    assert str(tmp_path / "model.pt") in refusal(lambda: load_model(tmp_path))


def test_transparent_pixels_show_the_background_of_the_training(folder, tmp_path):
    model = mgnas.load(folder)
    assert model.background == (255, 255, 255)
    clear = Image.new("LA", (8, 8), (100, 0))
    model.background = (7, 7, 7)
    metadata = model.metadata()
    assert metadata["background"] == [7, 7, 7]
    assert Classifier.from_metadata(metadata).background == (7, 7, 7)
    assert (as_images(clear, 1, 8, model.background) == 7).all()
    assert (as_images(clear, 1, 8) == 255).all()


@pytest.mark.parametrize("background", [[1, 2], [0, 0, 256], [0, 0, -1], ["0", "0", "0"], [0.0, 0.0, 0.0], 7])
def test_a_model_with_an_impossible_background_is_damaged(folder, background):
    metadata = mgnas.load(folder).metadata() | {"background": background}
    with pytest.raises((ValueError, TypeError)):
        Classifier.from_metadata(metadata)
