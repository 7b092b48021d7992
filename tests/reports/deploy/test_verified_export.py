import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import mgnas
from mgnas.errors import UserError
from mgnas.models.config import ArchitectureConfig
from mgnas.reports.deploy.export import export_folder
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
from mgnas.reports.deploy.quantisation import MAX_LOSS
from mgnas.reports.deploy.retraining import Retrained
from mgnas.reports.deploy.verified_export import export_and_verify, quantise_retrained
from mgnas.search.data.dataset import DataSettings
from mgnas.space.candidate import TrainingSettings


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Arguments -> a folder of images: grey or coloured, of some size, with these classes."""

    def make(mode="L", size=8, classes=("cat", "dog")):
        folder = tmp_path_factory.mktemp("photos")
        rng = np.random.default_rng(0)
        shape = (size, size) if mode == "L" else (size, size, 3)
        for name in classes:
            (folder / name).mkdir()
            for number in range(8):
                Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name / f"{number}.png")
        return folder

    return make


@pytest.fixture(scope="module")
def trained_on_photos(photos, tmp_path_factory):
    """The folder of the images, and that of a network trained on them."""
    images, folder = photos(), tmp_path_factory.mktemp("trained") / "net"
    architecture = ArchitectureConfig(family="mgnet", base_channels=(4,), in_channels=1, num_classes=2)
    data = DataSettings(name="folder", path=str(images))
    train_fully(FinalTraining(architecture, TrainingSettings(epochs=1), data), folder, "cpu")
    return images, folder


def logits_of(folder, images):
    with torch.inference_mode():
        return mgnas.load(folder)(torch.from_numpy(images)).numpy()


def test_onnx_takes_raw_images_in_any_number(folder, images):
    said = []
    file = export_and_verify(folder, "onnx", int8=True, say=said.append)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape[1:]) == ("images", "tensor(uint8)", [1, 8, 8])
    for count in (1, 2, 5, 360):
        (found,) = session.run(["logits"], {"images": images[:count]})
        np.testing.assert_allclose(found, logits_of(folder, images[:count]), atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == [str(digit) for digit in range(10)]
    assert json.loads(metadata["mgnas"])["architecture"]["family"] == "mgnet"
    assert "Verified on 256 images" in said[1]
    # onnxruntime 1.17 reads these; it refuses newer files, and operator sets of other domains that it does not know.
    for written in filter(Path.exists, (file, folder / "model.int8.onnx")):
        proto = onnx.load(written)
        assert (proto.ir_version, [(entry.domain, entry.version) for entry in proto.opset_import]) == (8, [("", 18)])
    # The exporter notes the source of each node; nobody's paths go out with the model.
    assert b"site-packages" not in file.read_bytes()
    assert sum(node.op_type == "BatchNormalization" for node in onnx.load(file).graph.node) == 8
    card = (folder / "model_card.md").read_text()
    assert f"| model.onnx | {file.stat().st_size:,} |" in card
    facts = json.loads((folder / "exports.json").read_text())["int8"]
    assert facts["float_accuracy"] == json.loads((folder / "result.json").read_text())["test_accuracy"]
    assert facts["kept"] == (facts["float_accuracy"] - facts["accuracy"] <= MAX_LOSS)
    assert facts["kept"] == (folder / "model.int8.onnx").exists()
    assert facts["words"] in card


def test_torch_export_runs_without_mgnas(folder, images):
    file = export_and_verify(folder, "torch-export")
    np.save(folder / "images.npy", images[:7])
    script = (
        "import json, sys, numpy, torch\n"
        "extra = {'class_names': ''}\n"
        f"program = torch.export.load({str(file)!r}, extra_files=extra).module()\n"
        f"logits = program(torch.from_numpy(numpy.load({str(folder / 'images.npy')!r})))\n"
        "print(json.dumps([logits.tolist(), json.loads(extra['class_names']), 'mgnas' in sys.modules]))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    logits, names, imported = json.loads(run.stdout)
    np.testing.assert_allclose(logits, logits_of(folder, images[:7]), atol=1e-4)
    assert (len(names), imported) == (10, False)


def test_safetensors_is_loaded_back(folder, images, tmp_path):
    file = export_and_verify(folder, "safetensors", output=tmp_path / "weights.safetensors")
    model = mgnas.load(file)
    assert model.class_names == mgnas.load(folder).class_names
    assert model.image_size == 8
    np.testing.assert_array_equal(logits_of(file, images), logits_of(folder, images))


def test_a_folder_with_safetensors_alone_is_loaded_and_exported(folder, images):
    before = logits_of(folder, images)
    export_and_verify(folder, "safetensors")
    (folder / "model.pt").unlink()
    np.testing.assert_array_equal(logits_of(folder, images), before)
    assert export_and_verify(folder, "torch-export").is_file()


def test_what_is_refused_is_noted_nowhere(folder):
    with pytest.raises(UserError, match=r"model\.onnx: not written: .* on 256 images"):
        export_and_verify(folder, "onnx", tolerance=0.0)
    assert not (folder / "exports.json").exists()


def test_bad_exports_are_one_line(folder, tmp_path):
    with pytest.raises(UserError, match="--int8: quantises an ONNX network"):
        export_and_verify(folder, "safetensors", int8=True)
    with pytest.raises(UserError, match=r"none/model\.pt: no such model"):
        export_and_verify(tmp_path / "none", "onnx")
    with pytest.raises(UserError, match=r"cannot be written .*--output"):
        export_and_verify(folder, "safetensors", output=tmp_path / "none" / "x.safetensors")
    result = json.loads((folder / "result.json").read_text())
    result["data"] |= {"name": "npz", "path": str(tmp_path / "gone.npz")}
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"verified on real images: .*gone\.npz: no such file.*--data"):
        export_and_verify(folder, "onnx", int8=True)
    with pytest.raises(UserError, match=r"verified on real images: .*gone\.npz: no such file.*--data"):
        export_and_verify(folder, "safetensors", data_path=str(tmp_path / "gone.npz"))
    (folder / "result.json").write_text("[]")
    with pytest.raises(UserError, match=r"result\.json: is damaged"):
        export_and_verify(folder, "safetensors")


# ------------------------------------------------------------------------------------------------------ other images


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"mode": "RGB"}, "these have 3 channels, and the network takes 1"),
        ({"size": 16}, "these have 16 pixels per side, and the network was trained on 8"),
        ({"classes": ("cat", "wolf")}, "these show the classes wolf, and the network knows dog"),
        (
            {"classes": ("cat", "dog", "wolf")},
            "these show the classes cat, dog, wolf (3), and the network knows cat, dog (2)",
        ),
    ],
    ids=["channels", "size", "names", "number of classes"],
)
def test_images_of_another_kind_are_refused_and_nothing_is_overwritten(
    trained_on_photos, photos, tmp_path, refusal, other, words
):
    folder = Path(shutil.copytree(trained_on_photos[1], tmp_path / "net"))
    (folder / "model.onnx").write_bytes(b"an older export")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    message = refusal(lambda: export_and_verify(folder, "onnx", int8=True, data_path=str(photos(**other))))
    assert message == f"the export is verified on real images: {words}; --data says where the right ones are"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_images_that_have_moved_are_found_by_the_option(trained_on_photos, tmp_path, caplog):
    images, trained = trained_on_photos
    folder = Path(shutil.copytree(trained, tmp_path / "far" / "away" / "net"))
    lines = []
    export_and_verify(folder, "onnx", say=lines.append)
    assert lines[1].startswith("Verified on 256 random images: largest difference of a logit ")
    assert "there are no real images to verify the export on: " in caplog.text
    assert "; --data says where they are" in caplog.text
    assert " on 256 random images |" in (folder / "model_card.md").read_text()
    moved = shutil.copytree(images, tmp_path / "moved")
    export_and_verify(folder, "onnx", data_path=str(moved), say=lines.append)
    assert "random" not in lines[3]
    assert "random images" not in (folder / "model_card.md").read_text()


def test_images_that_move_together_with_the_network_are_found(trained_on_photos, tmp_path):
    images, trained = trained_on_photos
    shutil.copytree(images, tmp_path / "there" / images.name)
    folder = Path(shutil.copytree(trained, tmp_path / "there" / trained.parent.name / "net"))
    assert json.loads((folder / "result.json").read_text())["data"]["path"] == f"../../{images.name}"
    assert export_and_verify(folder, "safetensors").is_file()


def test_int8_is_measured_on_the_images_of_the_training_alone(trained_on_photos, tmp_path, refusal):
    """The classes' folders have changed places: names, channels and size are the same, all labels are wrong."""
    images, trained = trained_on_photos
    folder = Path(shutil.copytree(trained, tmp_path / "net"))
    swapped = Path(shutil.copytree(images, tmp_path / "swapped"))
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (swapped / old).rename(swapped / new)
    message = refusal(lambda: export_and_verify(folder, "onnx", int8=True, data_path=str(swapped)))
    assert message.startswith("--int8: the images are not those that the network was trained on")
    assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize(
    "content", ["{}", '{"data": 3}', '{"data": {"name": "digits"}}', '{"data": {"nam": "digits"}}']
)
def test_a_damaged_result_is_one_line(folder, refusal, content):
    (folder / "result.json").write_text(content)
    before = {file.name for file in folder.iterdir()}
    assert "result.json" in refusal(lambda: export_and_verify(folder, "safetensors"))
    assert {file.name for file in folder.iterdir()} == before


def test_data_that_comes_with_a_package_has_no_path(folder, tmp_path, refusal):
    message = refusal(lambda: export_and_verify(folder, "safetensors", data_path=str(tmp_path)))
    assert "data.path: has no effect for digits" in message


# ------------------------------------------------------------------------------------------------------ killed exports


def test_what_a_killed_export_has_left_is_removed_by_the_next(folder, tmp_path):
    """Killed while the network that was written is compared."""
    script = f"""
import os, signal
from pathlib import Path
from mgnas.reports.deploy import export
from mgnas.reports.deploy.retraining import Retrained
from mgnas.reports.deploy.verified_export import export_and_verify, quantise_retrained
export.largest_difference = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
export_and_verify(Path({str(folder)!r}), "safetensors")
"""
    before = {file.name for file in folder.iterdir()}
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = {file.name for file in folder.iterdir()} - before
    assert leftover.startswith(".new-")
    (folder / ".new-ab12cd_3.onnx").write_bytes(b"what version 0.1.0 left")
    (folder / ".new-notes.txt").write_text("the user's own")
    export_and_verify(folder, "safetensors")
    new = {file.name for file in folder.iterdir()} - before
    assert new == {"model.safetensors", "exports.json", ".new-notes.txt"}


def test_the_files_of_another_export_that_goes_on_stay(folder):
    with export_folder(folder / "model.onnx") as other:
        export_and_verify(folder, "safetensors")
        assert other.is_dir()
    assert not other.exists()


# ------------------------------------------------------------------------------------------------------------- output


@pytest.mark.parametrize("name", ["model.pt", "result.json", "model_card.md", "notes.txt"])
def test_files_of_other_kinds_are_not_overwritten(folder, refusal, name):
    (folder / "notes.txt").write_text("mine")
    before = (folder / name).read_bytes()
    message = refusal(lambda: export_and_verify(folder, "safetensors", output=folder / name))
    assert message == f"{folder / name}: exists already and is no .safetensors file; choose another file with --output"
    assert (folder / name).read_bytes() == before


def test_a_folder_is_no_output(folder, tmp_path, refusal):
    assert "is a folder; choose another" in refusal(lambda: export_and_verify(folder, "safetensors", output=tmp_path))


def test_two_networks_in_one_folder_have_an_int8_network_each(trained_on_photos, tmp_path):
    _, folder = trained_on_photos
    for name in ("a", "b"):
        export_and_verify(folder, "onnx", int8=True, output=tmp_path / f"{name}.onnx")
    kept = json.loads((folder / "exports.json").read_text())["int8"]["kept"]
    expected = {"a.onnx", "b.onnx"} | ({"a.int8.onnx", "b.int8.onnx"} if kept else set())
    assert {file.name for file in tmp_path.iterdir()} == expected


def test_the_umask_decides_who_may_read_an_export(folder):
    before = os.umask(0o077)
    try:
        file = export_and_verify(folder, "safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_torch_export_file_holds_neither_paths_nor_real_images(folder, images):
    with zipfile.ZipFile(export_and_verify(folder, "torch-export")) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert images[:2].tobytes() not in content
    assert b"site-packages" not in content
    assert str(Path(mgnas.__file__).parents[1]).encode() not in content


# ----------------------------------------------------------------------------------------------------------- retrained


def test_each_seed_is_quantised_once(folder, tmp_path, caplog):
    caplog.set_level("INFO", "mgnas.reports.deploy.verified_export")
    for seed in (0, 1):
        shutil.copytree(folder, tmp_path / "net" / f"seed-{seed}")
    (tmp_path / "net" / "seed-2").mkdir()  # Of a training that is not finished.
    done = {
        "onnx": {"file": "model.onnx", "size": 1, "difference": 0.0, "images": 1},
        "int8": {"words": "measured before"},
    }
    (tmp_path / "net" / "seed-1" / "exports.json").write_text(json.dumps(done))
    handlers = list(logging.root.handlers)
    quantise_retrained(Retrained(0, 0.9, "test", (0.9, 0.9), tmp_path / "net"))
    assert logging.root.handlers == handlers
    facts = json.loads((tmp_path / "net" / "seed-0" / "exports.json").read_text())["int8"]
    assert {"accuracy", "float_accuracy", "size", "float_size", "kept", "epochs"} <= set(facts)
    words = f"trial 0, seed 0: {facts['words']}"
    assert caplog.messages == ["trial 0: exporting and quantising 1 network", words]
    assert json.loads((tmp_path / "net" / "seed-1" / "exports.json").read_text()) == done
    assert not list((tmp_path / "net" / "seed-2").iterdir())
