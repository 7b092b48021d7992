import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import mgnas
from mgnas.errors import UserError
from mgnas.reports.deploy.quantisation import MAX_LOSS
from mgnas.reports.deploy.verified_export import export_and_verify


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
        export_and_verify(folder, "safetensors")
    (folder / "result.json").write_text("[]")
    with pytest.raises(UserError, match=r"result\.json: is damaged"):
        export_and_verify(folder, "safetensors")
