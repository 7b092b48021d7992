"""What only a measurement tells of a network: how long it takes on this machine, and how large its file is.

Networks are measured in ONNX Runtime, as they are deployed. Without the extra `export` they are measured in PyTorch.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch

from mgnas.errors import UserError
from mgnas.files import read_json, write_text

from ....search.trial_record import CompletedTrial
from ....space.candidate import Candidate
from ..classifier import Classifier
from ..export import as_safetensors, require_onnx
from .measure import BATCHES, quartiles
from .untrained import network_key, untrained, write_untrained

_MIN_RUNS, _MAX_RUNS, _SECONDS = 3, 50, 0.15


def machine(kind: str = "float32") -> str:
    """On what latencies are measured here: processor, runtime, version, and the kind of network."""
    name = platform.processor() or platform.machine()
    runtime = f"ONNX Runtime {version('onnxruntime')}" if _has_runtime() else f"PyTorch {torch.__version__}"
    return f"one thread of {name}, {runtime}, {kind}"


def _has_runtime() -> bool:
    """Whether the packages of the extra `export` that measure a network in ONNX Runtime are installed."""
    return all(find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime"))


def measure_latencies(candidate: Candidate) -> list[float]:
    """Median milliseconds for each of `BATCHES` on one CPU thread, from uint8 images to logits.

    Small networks gain nothing from more threads. And on a busy machine, threads wait for each other, so the time would
    tell more about the other processes than about the network.
    """
    if not _has_runtime():
        return [_in_pytorch(untrained(candidate), shape) for shape in _shapes(candidate)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        write_untrained(candidate, file)
        return [quartiles(file, shape, seconds=_SECONDS)[1] for shape in _shapes(candidate)]


def measure_int8_latencies(candidate: Candidate) -> list[float]:
    """As `measure_latencies`, of the int8 network in ONNX Runtime.

    Raises:
        UserError: a package of the extra `export` is not installed.
    """
    require_onnx()
    with tempfile.TemporaryDirectory() as folder:
        file, int8 = Path(folder) / "network.onnx", Path(folder) / "network.int8.onnx"
        write_untrained(candidate, file, int8)
        return [quartiles(int8, shape, seconds=_SECONDS)[1] for shape in _shapes(candidate)]


def _shapes(candidate: Candidate) -> list[tuple[int, ...]]:
    """Of the images, for each of `BATCHES`."""
    return [(batch, candidate.architecture.in_channels, *2 * (candidate.image_size,)) for batch in BATCHES]


def _in_pytorch(model: Classifier, shape: tuple[int, ...]) -> float:
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    times: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        model.eval()(images)
        while len(times) < _MIN_RUNS or (sum(times) < _SECONDS and len(times) < _MAX_RUNS):
            start = time.perf_counter()
            model(images)
            times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return 1000 * statistics.median(times)


class LatencyMeter:
    """Measures networks with random weights on this machine, and remembers the results.

    Args:
        file: that keeps latencies; those of another machine or version are measured anew. None: they are not kept.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self.machine = file, machine()
        self._latencies = self._remembered()
        self._sizes: dict[str, int] = {}

    def latencies(self, candidate: Candidate) -> dict[int, float]:
        """Batch -> milliseconds."""
        return self._known(network_key(candidate), candidate, measure_latencies)

    def int8_latencies(self, candidate: Candidate) -> dict[int, float]:
        """Batch -> milliseconds of the int8 network.

        Raises:
            UserError: it cannot be measured here.
        """
        return self._known(f"{network_key(candidate)} int8", candidate, measure_int8_latencies)

    def _known(self, key: str, candidate: Candidate, measure: Callable[[Candidate], list[float]]) -> dict[int, float]:
        """What is remembered under the key; measured first if nothing is."""
        if key not in self._latencies:
            self._latencies[key] = [round(milliseconds, 4) for milliseconds in measure(candidate)]
            self._remember()
        return dict(zip(BATCHES, self._latencies[key], strict=True))

    def in_words(self, candidate: Candidate) -> str:
        """The latency for one image, and where it comes from."""
        return f"{self.latencies(candidate)[1]:.4g} ms for 1 image on {self.machine}"

    def int8_in_words(self, candidate: Candidate) -> str:
        """As `in_words`, of the int8 network."""
        return f"{self.int8_latencies(candidate)[1]:.4g} ms for 1 image on {machine('int8')}"

    def measured(self, trials: Sequence[CompletedTrial], seconds: float) -> dict[int, dict[int, float]]:
        """Trial number -> latencies, of the trials that are remembered or can be measured within `seconds`.

        The first and the last trial come first, then always the one in the middle of the largest gap.
        """
        end, latencies = time.monotonic() + seconds, {}
        for trial in (trials[index] for index in _spread_out(len(trials))):
            if network_key(trial.candidate) in self._latencies or time.monotonic() < end:
                latencies[trial.number] = self.latencies(trial.candidate)
        return latencies

    def size(self, candidate: Candidate) -> int:
        """Bytes of the exported network (safetensors, float32)."""
        if candidate.architecture.id not in self._sizes:
            self._sizes[candidate.architecture.id] = len(as_safetensors(untrained(candidate)))
        return self._sizes[candidate.architecture.id]

    def _remembered(self) -> dict[str, list[float]]:
        if self._file is None or not self._file.exists():
            return {}
        try:
            content = read_json(self._file)
            measured_on, latencies = content["machine"], dict(content["milliseconds"])
            for times in latencies.values():
                if len(times) != len(BATCHES) or not all(0 < milliseconds < math.inf for milliseconds in times):
                    raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{self._file}: is damaged; delete it, and latencies are measured again") from None
        return latencies if measured_on == self.machine else {}

    def _remember(self) -> None:
        if self._file is None:
            return
        content = {"machine": self.machine, "batches": BATCHES, "milliseconds": self._latencies}
        write_text(self._file, json.dumps(content, indent=1) + "\n")


def _spread_out(count: int) -> list[int]:
    """The numbers 0 .. count - 1: the ends first, then always the middle of the largest gap between earlier ones."""
    order = list(dict.fromkeys([0, count - 1])) if count else []
    while len(order) < count:
        gap, low = max((high - low, -low) for low, high in pairwise(sorted(order)))
        order.append(-low + gap // 2)
    return order
