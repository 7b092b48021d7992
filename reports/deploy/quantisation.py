"""int8 by onnxruntime's static quantisation. The network is kept only if it loses little accuracy on unseen images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...search.data.images import ImageDataset
from ..text import short_count
from .export import ONNX_IR, accuracy, export_folder, needs, onnx_runner

MAX_LOSS = 0.01
"""Accuracy that int8 may cost, as a fraction."""

_CALIBRATION_IMAGES, _BATCH = 512, 64


@dataclass(frozen=True)
class Quantised:
    """What became of an int8 network.

    Args:
        size, float_size: of the int8 file and of the float one, in bytes.
        accuracy, float_accuracy: as fractions, on the same images.
        images: how many images that were.
        kept: whether the file was kept.
    """

    size: int
    float_size: int
    accuracy: float
    float_accuracy: float
    images: int
    kept: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        """What happened, in one sentence."""
        sizes = f"{short_count(self.size)} bytes instead of {short_count(self.float_size)}"
        accuracies = (
            f"{100 * self.accuracy:.2f} % instead of {100 * self.float_accuracy:.2f} % on {self.images:,} images"
        )
        if not self.kept:
            return f"int8 does not hold up and was not kept: {accuracies}, {sizes}"
        larger = ": larger, since scales and conversions outweigh the weights" if self.size > self.float_size else ""
        return f"int8: {accuracies}, {sizes}{larger}"


def quantise(file: Path, output: Path, calibration: ImageDataset, unseen: ImageDataset) -> Quantised:
    """Quantise an exported ONNX network: weights per channel, activations by their ranges on training images.

    Args:
        file: the float network.
        output: file for the int8 network.
        calibration: training images, on which the range of each activation is measured.
        unseen: images to measure accuracy on.

    Raises:
        UserError: onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise needs(error) from None

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = _batches(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            # onnxruntime annotates only the dict, but asks until it gets None.
            images = next(self._batches, None)
            return None if images is None else {"images": images}

    before = logging.root.level
    logging.root.setLevel(logging.ERROR)  # onnxruntime's tool gives advice on the root logger.
    try:
        with export_folder(output) as scratch:
            prepared, candidate = scratch / "prepared.onnx", scratch / "int8.onnx"
            quant_pre_process(file, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                candidate,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            # onnxruntime's tool writes a newer file version, and operator sets that no node needs and that older
            # runtimes refuse.
            proto = onnx.load(candidate)
            proto.ir_version = min(proto.ir_version, ONNX_IR)
            needed = [
                entry for entry in proto.opset_import if entry.domain in {node.domain for node in proto.graph.node}
            ]
            del proto.opset_import[:]
            proto.opset_import.extend(needed)
            onnx.save(proto, candidate)
            images = unseen.images
            int8, exact = (accuracy(onnx_runner(f), images, unseen.labels) for f in (candidate, file))
            size, kept = candidate.stat().st_size, exact - int8 <= MAX_LOSS
            if kept:
                candidate.replace(output)
    finally:
        logging.root.setLevel(before)
    return Quantised(size, file.stat().st_size, int8, exact, len(unseen), kept)


def _batches(images: ImageDataset) -> Iterator[np.ndarray]:
    """At most 512 images, evenly spaced over the set, 64 at a time: uint8, n x channels x h x w."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), _CALIBRATION_IMAGES)).round().astype(int)
    for start in range(0, len(chosen), _BATCH):
        yield images.gather(chosen[start : start + _BATCH])
