"""ExecuTorch and LiteRT, the runtimes of phones and small computers: networks that take one image at a time.

Their packages are large, so each is an extra of its own: `mgnas[executorch]` and `mgnas[litert]`.
"""

# The packages are installed only where they are wanted.
# pyright: reportMissingImports=false

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .classifier import Classifier

Runner = Callable[[np.ndarray], np.ndarray]


def write_executorch(model: Classifier, file: Path, images: np.ndarray) -> None:
    """A program for ExecuTorch, computed by XNNPACK. Its method `class_names` gives the names as JSON.

    Raises:
        ImportError: executorch is not installed.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(model, (_example(images),))
    names: dict[str, Any] = {"class_names": json.dumps(list(model.class_names), ensure_ascii=False)}
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=names)
    file.write_bytes(edge.to_executorch().buffer)


def executorch_runner(file: Path) -> Runner:
    """Runs a .pte file in ExecuTorch's runtime, image by image: uint8 images -> logits."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(str(file)).load_method("forward")
    assert method is not None  # write_executorch has written it.
    # The runtime's output is in memory that the next image overwrites.
    return _one_by_one(lambda image: method.execute([torch.from_numpy(image)])[0].numpy().copy())


def write_litert(model: Classifier, file: Path, images: np.ndarray) -> None:
    """A flatbuffer for LiteRT (TensorFlow Lite). The format has no place for class names.

    Raises:
        ImportError: litert-torch is not installed.
    """
    import litert_torch

    with redirect_stdout(io.StringIO()):  # It reports its progress there.
        litert_torch.convert(model, (_example(images),)).export(str(file))


def litert_runner(file: Path) -> Runner:
    """Runs a .tflite file in LiteRT's interpreter, image by image: uint8 images -> logits."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return _one_by_one(run)


def _example(images: np.ndarray) -> torch.Tensor:
    """One black image of this size, for the tracers."""
    return torch.zeros(1, *images.shape[1:], dtype=torch.uint8)


def _one_by_one(run: Runner) -> Runner:
    """The same for several images, from a runner of single ones."""
    return lambda images: np.concatenate([run(images[index : index + 1]) for index in range(len(images))])
