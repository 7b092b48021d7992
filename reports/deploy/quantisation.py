"""int8 by onnxruntime's static quantisation. The network is kept only if it loses little accuracy on unseen images.

Weights are quantised per output channel, activations per tensor by their ranges on training images. A network that
loses more than half a point is fine-tuned with rounding (fake_quantisation.py) and quantised again.

onnxruntime folds a batch norm into the convolution before it, which gives each use of a shared operator weights of its
own. Folding only scales output channels, and each channel has a scale of its own anyway, so the integers of all uses
are the same. They are stored once, and an int8 network shares what the float network shares.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...search.data.images import ImageDataset
from ...search.training.trainer import TrainingDivergedError
from ..text import short_count
from .classifier import Classifier
from .export import ONNX_IR, accuracy, export_folder, needs, onnx_runner, write_onnx

if TYPE_CHECKING:
    import onnx

TUNING_LOSS = 0.005
"""Accuracy that int8 may cost without fine-tuning, as a fraction."""

MAX_LOSS = 0.01
"""Accuracy that int8 may cost, as a fraction."""

_CALIBRATION_IMAGES, _BATCH = 512, 64
_TIES = 1e-3
"""Share of the weights of two uses that may differ by one: whose scaled value lies in the middle of two integers."""


@dataclass(frozen=True)
class Quantised:
    """What became of an int8 network.

    Args:
        size, float_size: of the int8 file and of the float one, in bytes.
        accuracy, float_accuracy: as fractions, on the same images.
        images: how many images that were.
        kept: whether the file was kept.
        epochs: of the fine-tuning with rounding; 0: the network was quantised as it was trained.
    """

    size: int
    float_size: int
    accuracy: float
    float_accuracy: float
    images: int
    kept: bool
    epochs: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        """What happened, in one sentence."""
        sizes = f"{short_count(self.size)} bytes instead of {short_count(self.float_size)}"
        accuracies = (
            f"{100 * self.accuracy:.2f} % instead of {100 * self.float_accuracy:.2f} % on {self.images:,} images"
        )
        tuned = f", fine-tuned for {self.epochs} epochs" if self.epochs else ""
        if not self.kept:
            return f"int8 does not hold up and was not kept: {accuracies}, {sizes}{tuned}"
        larger = ": larger, since scales and conversions outweigh the weights" if self.size > self.float_size else ""
        return f"int8: {accuracies}, {sizes}{tuned}{larger}"


def quantise(
    file: Path,
    output: Path,
    calibration: ImageDataset,
    unseen: ImageDataset,
    tuned: Callable[[], tuple[Classifier, int]] | None = None,
) -> Quantised:
    """Quantise an exported ONNX network.

    Args:
        file: the float network.
        output: file for the int8 network.
        calibration: training images, on which the range of each activation is measured.
        unseen: images to measure accuracy on.
        tuned: gives the fine-tuned network, and for how many epochs. It is called if more than half a point is lost.
            Its int8 network is taken if it is better.

    Raises:
        UserError: onnx or onnxruntime is not installed.
    """
    images, labels = unseen.images, unseen.labels
    with export_folder(output) as scratch:
        candidate, epochs = scratch / "int8.onnx", 0
        _write_int8(file, candidate, calibration)
        int8, exact = (accuracy(onnx_runner(f), images, labels) for f in (candidate, file))
        if tuned is not None and exact - int8 > TUNING_LOSS:
            other = scratch / "tuned.int8.onnx"
            try:
                network, trained = tuned()
                write_onnx(network, scratch / "tuned.onnx", images)
                _write_int8(scratch / "tuned.onnx", other, calibration)
                better = accuracy(onnx_runner(other), images, labels)
            except TrainingDivergedError:
                better, trained = 0.0, 0
            if better > int8:
                candidate, int8, epochs = other, better, trained
        size, kept = candidate.stat().st_size, exact - int8 <= MAX_LOSS
        if kept:
            candidate.replace(output)
    return Quantised(size, file.stat().st_size, int8, exact, len(unseen), kept, epochs)


def _write_int8(file: Path, output: Path, calibration: ImageDataset) -> None:
    """Quantise a float network with the ranges that these images give."""
    try:
        import onnx
        import onnxruntime
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise needs(error) from None

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = _batches(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            # onnxruntime annotates only the dict, but asks until it gets None.
            images = next(self._batches, None)
            return None if images is None else {"images": images}

    prepared = output.with_name("prepared.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(prepared)
    # A coefficient of a polynomial may be negative, and then its operator's integers would have the other sign.
    onnxruntime.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConvMulFusion"]
    )
    with _without_advice():
        quantize_static(
            prepared,
            output,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    proto = onnx.load(output)
    # onnxruntime's tool writes a newer file version, and operator sets that no node needs and that older runtimes
    # refuse.
    proto.ir_version = min(proto.ir_version, ONNX_IR)
    needed = [entry for entry in proto.opset_import if entry.domain in {node.domain for node in proto.graph.node}]
    del proto.opset_import[:]
    proto.opset_import.extend(needed)
    compact(proto)
    onnx.checker.check_model(proto)
    onnx.save(proto, output)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Context in which onnxruntime's tool gives no advice on the root logger, and leaves no handler there."""
    before, handlers = logging.root.level, list(logging.root.handlers)
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)
        logging.root.handlers[:] = handlers


def compact(proto: onnx.ModelProto) -> None:
    """Store equal tensors once, and replace names inside the network by short ones.

    In a small int8 network, copies of shared weights and long names are most of the file. Inputs and outputs keep their
    names.
    """
    from onnx import numpy_helper

    graph = proto.graph
    kept: dict[tuple[Any, ...], list[tuple[str, np.ndarray]]] = {}
    names: dict[str, str] = {}
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        alike = kept.setdefault((tensor.data_type, values.shape), [])
        first = next((name for name, other in alike if same_integers(values, other)), None)
        if first is None:
            alike.append((tensor.name, values))
        else:
            names[tensor.name] = first
            graph.initializer.remove(tensor)
    public = {value.name for value in (*graph.input, *graph.output)} | {""}  # "": an optional input that is not given.

    def short(name: str) -> str:
        name = names.get(name, name)
        return name if name in public else new.setdefault(name, np.base_repr(len(new), 36))

    new: dict[str, str] = {}
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.name = ""
        node.input[:], node.output[:] = map(short, node.input), map(short, node.output)
    del graph.value_info[:]


def same_integers(values: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tensors of one shape are equal; int8 weights may differ by one where rounding was a tie."""
    if np.array_equal(values, other):
        return True
    if values.dtype != np.int8 or values.ndim < 2:
        return False
    difference = np.abs(values.astype(int) - other)
    return bool(difference.max() <= 1 and (difference > 0).mean() <= _TIES)


def _batches(images: ImageDataset) -> Iterator[np.ndarray]:
    """At most 512 images, evenly spaced over the set, 64 at a time: uint8, n x channels x h x w."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), _CALIBRATION_IMAGES)).round().astype(int)
    for start in range(0, len(chosen), _BATCH):
        yield images.gather(chosen[start : start + _BATCH])
