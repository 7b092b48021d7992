"""Networks without a search: built and counted from a config, a mapping or a published name."""

import pytest

import mgnas
from mgnas.space.published import preset

MAPPING = {"family": "mgiad", "base_channels": [16, 32], "in_channels": 1, "num_classes": 7}


@pytest.mark.parametrize("config", [MAPPING, mgnas.ArchitectureConfig(**MAPPING)], ids=["mapping", "config"])
def test_a_network_has_the_weights_that_were_counted(config):
    model = mgnas.build_model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == mgnas.count_weights(config)


def test_published_networks_have_names():
    assert mgnas.count_weights("mgiad-lambda3-cifar10") == 1_270_474
    assert mgnas.count_weights("mgnet-cifar10") == mgnas.count_weights(preset("mgnet-cifar10").config)
    # ResNet18 on 32 x 32 images, as the literature has it: 0.56G multiply-accumulates.
    assert mgnas.count_macs("resnet18-cifar10", 32) == 555_422_720


def test_bad_networks_are_one_line(refusal):
    assert refusal(lambda: mgnas.build_model("mgnet")).startswith("preset: unknown name 'mgnet'; there are resnet18")
    assert refusal(lambda: mgnas.count_weights({"family": "mgnet"})) == "base_channels: is required and missing"
    message = refusal(lambda: mgnas.count_weights(MAPPING | {"group_sise": 4}))
    assert message == "group_sise: unknown key; did you mean group_size?"


def test_bad_exports_and_models_are_one_line(refusal, tmp_path):
    assert refusal(lambda: mgnas.load(tmp_path)) == f"{tmp_path}/model.pt: no such model; `mgnas train` writes one"
    message = refusal(lambda: mgnas.export(tmp_path, to="tflite"))
    assert message == "to: expected onnx, torch-export, executorch, litert, safetensors, got 'tflite'"
    assert refusal(lambda: mgnas.export(tmp_path)).endswith("model.pt: no such model; `mgnas train` writes one")
