import sys
from typing import get_args

import numpy as np
import onnx
import pytest
import torch

import mgnas
from mgnas.errors import UserError
from mgnas.models import ArchitectureConfig
from mgnas.reports.deploy import export as export_module
from mgnas.reports.deploy.classifier import Classifier
from mgnas.reports.deploy.export import FILES, Format, accuracy, export_model, largest_difference, needs


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


def test_another_computation_is_refused_and_leaves_what_was_there(folder, images):
    file = folder / "model.onnx"
    file.write_bytes(b"an older export")
    with pytest.raises(
        UserError, match=r"model\.onnx: not written: .* differ by up to .* on 9 images, more than .* 0$"
    ):
        export_model(mgnas.load(folder), "onnx", file, images[:9], tolerance=0.0)
    assert file.read_bytes() == b"an older export"
    assert not list(folder.glob(".new-*"))


def test_channel_transfers_are_exported_without_transposing(tmp_path, images):
    config = ArchitectureConfig(family="mgiad", base_channels=(8, 16), group_size=4, channel_levels=2, in_channels=1)
    torch.manual_seed(0)
    model = Classifier(config, [0.5], [0.25], image_size=8).eval()
    file = tmp_path / "model.onnx"
    assert export_model(model, "onnx", file, images[:5]).difference < 1e-5
    operations = {node.op_type for node in onnx.load(file).graph.node}
    assert {"ReduceMean", "Expand"} <= operations  # averages and repeats
    assert "Transpose" not in operations


def test_weights_alone_are_exported_exactly(folder, images):
    export = export_model(mgnas.load(folder), "safetensors", folder / "model.safetensors", images[:5], tolerance=0.0)
    assert (export.difference, export.images) == (0.0, 5)
    assert export.size == (folder / export.file).stat().st_size


def test_accuracy_is_the_share_of_largest_logits_over_all_batches(images):
    labels = np.arange(len(images)) % 10

    def right_for_even_labels(part):
        start = seen.pop(0)
        logits = np.zeros((len(part), 10))
        logits[np.arange(len(part)), labels[start : start + len(part)] // 2 * 2] = 1
        return logits

    seen = list(range(0, len(images), 64))
    assert accuracy(right_for_even_labels, images, labels) == 0.5


@pytest.mark.parametrize(("kind", "module"), [("executorch", "executorch"), ("litert", "litert_torch")])
def test_an_extra_that_is_not_installed_is_named_with_its_remedy(folder, images, refusal, monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)  # What `import` finds for a package that is not there.
    before = {file.name for file in folder.iterdir()}
    message = refusal(lambda: export_model(mgnas.load(folder), kind, folder / FILES[kind], images[:5]))
    assert message == f"export: needs {module}; pip install 'mgnas[{kind}]'"
    assert {file.name for file in folder.iterdir()} == before


def test_a_network_that_a_format_cannot_hold_is_one_line(folder, images, refusal, monkeypatch):
    def unable(model, file, images):
        raise RuntimeError("no kernel\nfor this operator")

    monkeypatch.setitem(export_module._WRITERS, "litert", unable)
    file = folder / "model.tflite"
    message = refusal(lambda: export_model(mgnas.load(folder), "litert", file, images[:5]))
    assert message == f"{file}: not written: litert cannot hold this network (RuntimeError: no kernel)"
    assert not file.exists()


def test_a_missing_package_is_named_with_its_remedy():
    assert str(needs(ImportError(name="onnxscript"))) == "export: needs onnxscript; pip install 'mgnas[export]'"


def test_every_format_has_a_file():
    assert set(FILES) == {"onnx", "torch-export", "executorch", "litert", "safetensors"} == set(get_args(Format))
