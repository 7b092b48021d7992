import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

import mgnas
from mgnas.errors import UserError
from mgnas.reports.deploy.export import FILES, largest_difference
from mgnas.reports.deploy.export_command import export_and_verify
from mgnas.reports.deploy.quantisation import LARGEST_LOSS, Quantised
from mgnas.search.data.dataset import DataSettings, load_dataset


@pytest.fixture
def folder(small_model, tmp_path):
    return Path(shutil.copytree(small_model, tmp_path / "model"))


@pytest.fixture(scope="module")
def images():
    return load_dataset(DataSettings(name="digits")).test.images


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
    # The exporter notes the source of each node; nobody's paths go out with the model.
    assert b"site-packages" not in file.read_bytes()
    assert sum(node.op_type == "BatchNormalization" for node in onnx.load(file).graph.node) == 8
    card = (folder / "model_card.md").read_text()
    assert f"| model.onnx | {file.stat().st_size:,} |" in card
    facts = json.loads((folder / "exports.json").read_text())["int8"]
    assert facts["float_accuracy"] == json.loads((folder / "result.json").read_text())["test_accuracy"]
    assert facts["kept"] == (facts["float_accuracy"] - facts["accuracy"] <= LARGEST_LOSS)
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


def test_another_computation_is_refused_and_leaves_what_was_there(folder):
    (folder / "model.onnx").write_bytes(b"an older export")
    with pytest.raises(UserError, match=r"model\.onnx: not written: .* differ by up to .* on 256 images"):
        export_and_verify(folder, "onnx", tolerance=0.0)
    assert (folder / "model.onnx").read_bytes() == b"an older export"
    assert not list(folder.glob(".new-*"))
    assert not (folder / "exports.json").exists()


def test_largest_difference_is_that_of_the_worst_logit(folder, images):
    model = mgnas.load(folder)

    def shifted(by):
        def run(part):
            found = model(torch.from_numpy(part)).detach().numpy()
            if len(part) == 1:
                found[0, 3] += by
            return found

        return run

    assert largest_difference(model, shifted(0.0), images) == 0.0
    assert largest_difference(model, shifted(0.25), images) == pytest.approx(0.25)
    assert largest_difference(model, shifted(float("nan")), images) == float("inf")


def test_int8_words_say_what_happened():
    smaller = Quantised(25_000, 100_000, 0.95, 0.953, 1000, True)
    assert smaller.in_words() == "int8: 95.00 % instead of 95.30 % on 1,000 images, 25k bytes instead of 100k"
    larger = Quantised(150_000, 100_000, 0.95, 0.953, 1000, True)
    assert "larger" in larger.in_words()
    worse = Quantised(25_000, 100_000, 0.90, 0.953, 1000, False)
    assert "does not hold up and was not kept" in worse.in_words()


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
        export_and_verify(folder, "safetensors")
    (folder / "result.json").write_text("[]")
    with pytest.raises(UserError, match=r"result\.json: is damaged"):
        export_and_verify(folder, "safetensors")


@pytest.mark.parametrize("damage", ["garbage", "truncated", "foreign"])
def test_unusable_safetensors_is_one_line(folder, tmp_path, damage):
    file = tmp_path / "bad.safetensors"
    if damage == "garbage":
        file.write_bytes(b"hello")
    elif damage == "truncated":
        file.write_bytes(export_and_verify(folder, "safetensors").read_bytes()[:2000])
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


def test_every_format_has_a_file():
    assert set(FILES) == {"onnx", "torch-export", "safetensors"}
