import logging
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import mgnas
from mgnas.models.config import ArchitectureConfig
from mgnas.models.cost import count_weights
from mgnas.reports.deploy.classifier import Classifier
from mgnas.reports.deploy.export import accuracy, export_model, onnx_runner
from mgnas.reports.deploy.quantisation import MAX_LOSS, TUNING_LOSS, Quantised, compact, quantise, same_integers
from mgnas.reports.deploy.verified_export import export_and_verify
from mgnas.search.data.dataset import DataSettings, load_dataset


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DataSettings(name="digits"))


def exported(model, folder, digits):
    export_model(model, "onnx", folder / "model.onnx", digits.test.images[:5])
    return folder / "model.onnx"


def integers_of(file):
    """The int8 convolution weights of a network."""
    tensors = onnx.load(file).graph.initializer
    return [numpy_helper.to_array(t) for t in tensors if t.data_type == TensorProto.INT8 and len(t.dims) == 4]


def untrained(**settings):
    torch.manual_seed(0)
    config = ArchitectureConfig(in_channels=1, base_channels=(8, 16), **settings)
    return Classifier(config, [0.3], [0.4]).eval()


# ---------------------------------------------------------------------------------------------------------------- words


def test_int8_words_say_what_happened():
    smaller = Quantised(25_000, 100_000, 0.95, 0.953, 1000, True)
    assert smaller.in_words() == "int8: 95.00 % instead of 95.30 % on 1,000 images, 25k bytes instead of 100k"
    larger = Quantised(150_000, 100_000, 0.95, 0.953, 1000, True)
    assert "larger" in larger.in_words()
    worse = Quantised(25_000, 100_000, 0.90, 0.953, 1000, False)
    assert "does not hold up and was not kept" in worse.in_words()
    tuned = Quantised(25_000, 100_000, 0.95, 0.953, 1000, True, 5)
    assert tuned.in_words().endswith("25k bytes instead of 100k, fine-tuned for 5 epochs")


# ------------------------------------------------------------------------------------------------------- shared weights


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "mgnet", "sharing": "AB", "smoothing_steps": 3},
        {"family": "mgnet", "sharing": "none", "resolution_transfer": "dense"},
        {"family": "mgnet", "smoother": "polynomial", "polynomial_degree": 2, "residual_activation": True},
        {"family": "mgiad", "group_size": 1, "fully_coupled_channels": 4, "kernel_size": 7, "stem_stride": 2},
        {"family": "mgic", "group_size": 4, "fully_coupled_channels": 4, "blocks": 1},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_an_int8_network_stores_shared_weights_once(settings, digits, tmp_path):
    """Convolutions have at most one byte per weight of the float network, however often a weight is used."""
    model = untrained(**settings)
    file = exported(model, tmp_path, digits)
    quantise(file, tmp_path / "int8.onnx", digits.train, digits.validation)
    convolutions = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    stored = sum(weights.size for weights in integers_of(tmp_path / "int8.onnx"))
    assert sum(convolutions) <= count_weights(model.config)
    assert stored == sum(convolutions)
    assert (tmp_path / "int8.onnx").stat().st_size < file.stat().st_size


def test_weights_of_two_uses_are_the_same_up_to_ties():
    weights = np.random.default_rng(0).integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
    tie, other, few = weights.copy(), weights.copy(), weights.copy()
    tie[0, 0, 0, 0] += 1 if tie[0, 0, 0, 0] < 127 else -1
    few[:, 0, 0, 0] ^= 1
    other[0, 0, 0, 0] = -128 if weights[0, 0, 0, 0] > 0 else 127
    assert same_integers(weights, weights.copy())
    assert same_integers(weights, tie)
    assert not same_integers(weights, other)
    assert not same_integers(weights, few)
    assert not same_integers(np.array([1, 2], np.int8), np.array([1, 3], np.int8))
    assert not same_integers(weights.astype(np.int32), tie.astype(np.int32))


def test_compacting_changes_no_result():
    rng = np.random.default_rng(0)
    value = rng.normal(size=(2, 2)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "a_long_name"], ["another_long_name"], "named"),
        helper.make_node("MatMul", ["another_long_name", "a_copy"], ["product"]),
        helper.make_node("Clip", ["product", "", "upper"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(value, "a_long_name"),
            numpy_helper.from_array(value.copy(), "a_copy"),
            numpy_helper.from_array(np.float32(1.5), "upper"),
        ],
    )
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    x = rng.normal(size=(3, 2)).astype(np.float32)

    def run():
        return onnxruntime.InferenceSession(proto.SerializeToString()).run(["y"], {"x": x})[0]

    before, size = run(), proto.ByteSize()
    compact(proto)
    np.testing.assert_array_equal(run(), before)
    assert len(proto.graph.initializer) == 2
    assert proto.ByteSize() < size


# ---------------------------------------------------------------------------------------------------------- fine-tuning


def test_the_fine_tuned_network_is_taken_if_int8_loses_too_much_and_it_is_better(folder, digits, tmp_path):
    """The same function, but one channel of each sigma(bn1(r)) is 2,000 times as large as the others.

    The plain network stands for the fine-tuned one.
    """
    plain, broken = mgnas.load(folder), mgnas.load(folder)
    with torch.no_grad():  # ReLU keeps positive factors, and B undoes them.
        for level in broken.network.levels:
            level.b[0].weight[:, 0] /= 2000
            for step in level.steps:
                step.bn1.weight[0] *= 2000
                step.bn1.bias[0] *= 2000
    file, output = exported(broken, tmp_path, digits), tmp_path / "int8.onnx"
    alone = quantise(file, output, digits.train, digits.test)
    assert alone.float_accuracy - alone.accuracy > TUNING_LOSS
    assert alone.kept == (alone.float_accuracy - alone.accuracy <= MAX_LOSS) == output.exists()
    quantised = quantise(file, output, digits.train, digits.test, lambda: (plain, 7))
    assert quantised.epochs == 7
    assert quantised.accuracy > alone.accuracy
    if quantised.kept:
        assert accuracy(onnx_runner(output), digits.test.images, digits.test.labels) == quantised.accuracy
    worse = quantise(file, output, digits.train, digits.test, lambda: (untrained(family="mgnet"), 7))
    assert (worse.epochs, worse.accuracy) == (0, alone.accuracy)


def test_a_network_that_keeps_its_accuracy_is_not_fine_tuned(folder, digits, tmp_path):
    file = exported(mgnas.load(folder), tmp_path, digits)
    level = logging.root.level
    quantised = quantise(file, tmp_path / "int8.onnx", digits.train, digits.test, lambda: pytest.fail("was tuned"))
    assert quantised.float_accuracy - quantised.accuracy <= TUNING_LOSS
    assert (quantised.epochs, quantised.kept) == (0, True)
    assert quantised.size == (tmp_path / "int8.onnx").stat().st_size < quantised.float_size
    assert logging.root.level == level
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"model.onnx", "int8.onnx"}


# --------------------------------------------------------------------------------------------------------- old runtimes


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="onnxruntime 1.17 is for Python up to 3.12")
def test_onnxruntime_1_17_gives_the_same_logits(new_environment, folder, images, tmp_path):
    python = new_environment("onnxruntime==1.17.*", "numpy<2")
    files = [export_and_verify(folder, "onnx", int8=True), folder / "model.int8.onnx"]
    np.save(tmp_path / "images.npy", images)
    script = (
        "import sys, numpy, onnxruntime\n"
        "assert onnxruntime.__version__.startswith('1.17')\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "numpy.save(sys.argv[2], session.run(['logits'], {'images': numpy.load(sys.argv[3])})[0])\n"
    )
    for file, tolerance in zip(files, (1e-4, 1e-2), strict=True):  # Kernels for int8 may round otherwise.
        arguments = [file, tmp_path / "logits.npy", tmp_path / "images.npy"]
        subprocess.run([python, "-c", script, *arguments], check=True)
        np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), onnx_runner(file)(images), atol=tolerance)
