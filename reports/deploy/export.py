"""Trained networks for use without mgnas: ONNX, a torch.export program, ExecuTorch, LiteRT, safetensors.

An export takes raw uint8 images, n x channels x h x w, and gives logits, n x classes; n is 1 for ExecuTorch and LiteRT
(mobile_formats.py). Before it gets its name it is run on real images and compared with the PyTorch network. All but
safetensors hold the computation, with the normalisation in front. torch's ONNX exporter folds a batch norm into the
convolution before it where that is exact. safetensors holds the unchanged weights, for `mgnas.load`.

ONNX files have an old operator set and file version, so that onnxruntime runs them from version 1.17 on, float and
int8. While an export is made its files are in a folder `.new-export-*` beside the target; the next export removes what
a killed one has left.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mgnas import __version__
from mgnas.errors import UserError, first_line
from mgnas.scratch import scratch_folder

from .classifier import METADATA, SAFETENSORS_FILE, Classifier, load_model
from .mobile_formats import executorch_runner, litert_runner, write_executorch, write_litert

Format = Literal["onnx", "torch-export", "executorch", "litert", "safetensors"]
FILES: dict[Format, str] = {
    "onnx": "model.onnx",
    "torch-export": "model.pt2",
    "executorch": "model.pte",
    "litert": "model.tflite",
    "safetensors": SAFETENSORS_FILE,
}
TOLERANCE = 1e-4
"""Largest difference of a logit that counts as rounding; a larger one shows another computation."""

ONNX_OPSET, ONNX_IR = 18, 8
"""Operator set and file version of ONNX files. onnxruntime 1.17 reads at most 20 and 9; 18 is torch's oldest."""

_BATCH = 64
_SCRATCH = ".new-export-"
_FORMER_SCRATCH = re.compile(r"\.new-[a-z0-9_]{8}\.(onnx|pt2|safetensors)")  # Of version 0.1.0.


@dataclass(frozen=True)
class Export:
    """A written export.

    Args:
        file: its name.
        size: in bytes.
        difference: largest difference of a logit from the PyTorch network's.
        images: on how many images that was measured.
    """

    file: str
    size: int
    difference: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def export_model(
    model: Classifier, kind: Format, file: Path, images: np.ndarray, tolerance: float = TOLERANCE
) -> Export:
    """Export a network, run what was written, and keep it if it computes the same.

    Args:
        model: the trained network.
        kind: what to write.
        file: where to write; replaced if it exists.
        images: to compare on, uint8 n x channels x h x w; real ones if there are any.
        tolerance: largest difference of a logit.

    Raises:
        UserError: a missing package, a network that the format cannot hold, a folder that cannot be written, or a
            larger difference; no file is left then.
    """
    model = model.eval().cpu()
    with export_folder(file) as scratch:
        temporary = scratch / file.name
        try:
            with quiet_exporter():
                _WRITERS[kind](model, temporary, images)
            run = _RUNNERS[kind](temporary)
        except ImportError as error:
            raise needs(error, kind if kind in ("executorch", "litert") else "export") from None
        except (UserError, OSError):
            raise
        except Exception as error:  # Exporters and runtimes raise many kinds.
            problem = f"{type(error).__name__}: {first_line(str(error))}"
            raise UserError(f"{file}: not written: {kind} cannot hold this network ({problem})") from error
        difference = largest_difference(model, run, images)
        if not difference <= tolerance:
            measured = f"the exported network's logits differ by up to {difference:.2g} on {len(images)} images"
            raise UserError(f"{file}: not written: {measured}, more than --tolerance {tolerance:g}")
        temporary.replace(file)
    return Export(file.name, file.stat().st_size, difference, len(images))


def largest_difference(model: nn.Module, other: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> float:
    """The largest difference of a logit over these images; infinite if a logit is not finite.

    The first image is run alone and the others in batches, so that both a single image and several are covered.
    """
    largest = 0.0
    cuts = [0, *range(1, len(images), _BATCH), len(images)]
    for start, end in pairwise(cuts):
        part = np.ascontiguousarray(images[start:end])
        with torch.inference_mode():
            expected = model(torch.from_numpy(part)).numpy()
        difference = np.abs(expected - other(part)).max()
        largest = max(largest, float(difference) if np.isfinite(difference) else float("inf"))
    return largest


@contextmanager
def export_folder(file: Path) -> Iterator[Path]:
    """A new folder beside `file`, for the time of the context; what killed processes have left there is removed.

    Raises:
        UserError: it cannot be written.
    """
    try:
        for leftover in file.parent.glob(".new-*"):
            if _FORMER_SCRATCH.fullmatch(leftover.name) and leftover.is_file():
                leftover.unlink(missing_ok=True)
        with scratch_folder(file.parent, _SCRATCH) as folder:
            yield folder
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{file}: cannot be written ({reason}); choose another with --output") from None


def _metadata(model: Classifier) -> dict[str, str]:
    """What every format carries besides the weights: for its users in plain words, and for `mgnas.load` as JSON."""
    return {
        "class_names": json.dumps(list(model.class_names), ensure_ascii=False),
        "input": "images: uint8, batch x channels x height x width, raw pixels 0 to 255",
        "output": "logits: float32, batch x classes",
        METADATA: json.dumps(model.metadata() | {"version": __version__}, ensure_ascii=False),
    }


def needs(error: ImportError, extra: str = "export") -> UserError:
    """The error for a package of an extra that is not installed."""
    package = (error.name or str(error)).partition(".")[0]
    return UserError(f"export: needs {package}; pip install 'mgnas[{extra}]'")


def require_onnx() -> None:
    """Raise what an export to ONNX would: before a long training, not after it.

    Raises:
        UserError: a package is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise needs(error) from None


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Context in which the exporters neither report progress nor advise their own developers."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch._export")
    before = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


def _example(images: np.ndarray) -> torch.Tensor:
    """An input for the tracers. It has two images, since torch.export takes sizes of 0 and 1 for constants.

    They are black, because torch.export keeps the example in its file, and real images are nobody else's business.
    """
    return torch.zeros(2, *images.shape[1:], dtype=torch.uint8)


def write_onnx(model: Classifier, file: Path, images: np.ndarray) -> None:
    """Write an ONNX file, unverified.

    Args:
        model: in evaluation mode.
        file: where to write.
        images: uint8, n x channels x h x w; only their shape matters.

    Raises:
        UserError: a package of the extra `export` is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it; its own message would be less clear
    except ImportError as error:
        raise needs(error) from None
    with quiet_exporter():
        program = torch.onnx.export(
            model,
            (_example(images),),
            dynamo=True,
            verbose=False,
            opset_version=ONNX_OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None  # It is None only with dynamo=False.
    proto = program.model_proto
    # The exporter notes the source of each node: paths of this machine, which make up most of a small network's file.
    for part in (proto.graph, *proto.functions):
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for part in (*proto.graph.value_info, *proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]
    del proto.metadata_props[:], proto.graph.metadata_props[:]
    onnx.helper.set_model_props(proto, _metadata(model))
    proto.ir_version = min(proto.ir_version, ONNX_IR)
    onnx.checker.check_model(proto)
    onnx.save(proto, file)


def _write_torch_export(model: Classifier, file: Path, images: np.ndarray) -> None:
    program = torch.export.export(model, (_example(images),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:  # Their source: paths of this machine.
        node.meta.pop("stack_trace", None)
    torch.export.save(program, file, extra_files=_metadata(model))


def _write_safetensors(model: Classifier, file: Path, images: np.ndarray) -> None:
    file.write_bytes(as_safetensors(model))


def as_safetensors(model: Classifier) -> bytes:
    """A safetensors file's bytes: the weights, and as metadata what `mgnas.load` needs besides them."""
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in model.state_dict().items()}, _metadata(model))


def onnx_runner(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Runs an ONNX file in onnxruntime on the CPU: uint8 images -> logits.

    Raises:
        UserError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise needs(error) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["logits"], {"images": images})[0])


def _run_torch_export(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    with quiet_exporter():
        program = torch.export.load(file).module()
    return _on_arrays(program)


def _on_arrays(network: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    return run


_WRITERS: dict[Format, Callable[[Classifier, Path, np.ndarray], None]] = {
    "onnx": write_onnx,
    "torch-export": _write_torch_export,
    "executorch": write_executorch,
    "litert": write_litert,
    "safetensors": _write_safetensors,
}
_RUNNERS: dict[Format, Callable[[Path], Callable[[np.ndarray], np.ndarray]]] = {
    "onnx": onnx_runner,
    "torch-export": _run_torch_export,
    "executorch": executorch_runner,
    "litert": litert_runner,
    "safetensors": lambda file: _on_arrays(load_model(file)),
}


def accuracy(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray) -> float:
    """Share of these images whose largest logit is their label's."""
    logits = [run(np.ascontiguousarray(images[start : start + _BATCH])) for start in range(0, len(images), _BATCH)]
    return float((np.concatenate(logits).argmax(axis=1) == labels).mean())
