"""Networks with random weights, which are as fast and as large as trained ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....search.data.images import ImageDataset
from ....space.candidate import Candidate
from ..classifier import Classifier
from ..export import write_onnx
from ..quantisation import quantise

_CALIBRATION_IMAGES = 8


def network_key(candidate: Candidate) -> str:
    """The name of a network for images of one size, in files of latencies."""
    return f"{candidate.architecture.id} {candidate.image_size}"


def untrained(candidate: Candidate) -> Classifier:
    """The network with random weights."""
    config = candidate.architecture
    channels = config.in_channels
    return Classifier(config, [0.5] * channels, [0.25] * channels, image_size=candidate.image_size).eval()


def write_untrained(candidate: Candidate, file: Path, int8: Path | None = None) -> None:
    """Write the network with random weights as ONNX.

    Args:
        candidate: the network.
        file: for the float32 network.
        int8: for the quantised one; None: it is not written.

    Raises:
        UserError: a package of the extra `export` is not installed.
    """
    shape = (_CALIBRATION_IMAGES, candidate.architecture.in_channels, *2 * (candidate.image_size,))
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_onnx(untrained(candidate), file, images)
    if int8 is not None:
        # No image has the class -1, so both networks are always wrong, and int8 cannot lose accuracy and be refused.
        unlabelled = ImageDataset(images, np.full(len(images), -1))
        quantise(file, int8, unlabelled, unlabelled)
