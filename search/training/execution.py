"""The ways to execute training steps: operation by operation, compiled, or recorded as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from mgnas.errors import first_line

from .memory import is_out_of_memory

Execution = Literal["auto", "eager", "compile", "cuda-graphs", "compile-cuda-graphs"]
"""How training steps are executed.

`eager`: operation by operation. `compile`: the network's passes are compiled by torch.compile, which takes minutes and
needs a C++ compiler. `cuda-graphs`: the kernels of a whole step are recorded and then launched together; on a CPU it is
the same as `eager`. `compile-cuda-graphs`: both. `auto`: `cuda-graphs` on a GPU, `eager` on a CPU.
"""

_WARM_UP_STEPS = 3


class RecordingError(RuntimeError):
    """A step cannot be recorded."""


class Recorder(Protocol):
    """Records a step."""

    def warm_up(self, step: Callable[[], None]) -> None:
        """Execute a step in the way that recording needs before it."""
        ...

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """A function that does what the step does, on the same memory. The step itself is not executed.

        Raises:
            RecordingError: the step cannot be recorded.
            torch.OutOfMemoryError: there is not enough memory.
        """
        ...


class StepRunner:
    """Executes a step again and again, and records it if there is a recorder.

    The first steps are executed one operation at a time, so that libraries have chosen their algorithms. They are steps
    like all others: recording changes no result.

    Args:
        recorder: None: all steps are executed one operation at a time.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.recorder = recorder
        self.forget()

    def __call__(self, step: Callable[[], None]) -> None:
        """Execute the step. A recorded one must always be the same function."""
        if self.recorder is None:
            step()
        elif self._warm_up_steps > 0:
            self._warm_up_steps -= 1
            self.recorder.warm_up(step)
        else:
            self._replay = self._replay or self.recorder.record(step)
            self._replay()

    def forget(self) -> None:
        """Forget what was recorded, and release its memory. It is recorded again when further steps are executed."""
        self._replay: Callable[[], None] | None = None
        self._warm_up_steps = _WARM_UP_STEPS


class CUDAGraphRecorder:
    """Records the kernels of a step as a CUDA graph (torch.cuda.graph)."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def warm_up(self, step: Callable[[], None]) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            step()
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context restores the stream. The inner one does not if the end of the recording fails.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                step()
        except Exception as error:
            raise _cause(error) from None
        return graph.replay


def _cause(error: BaseException) -> BaseException:
    """The error that broke a recording off; the end of a broken recording raises another one."""
    first: BaseException = error
    while True:
        if is_out_of_memory(first):
            return first
        if first.__context__ is None:
            return RecordingError(f"{type(first).__name__}: {first_line(first)}")
        first = first.__context__


def make_runner(execution: Execution, device: torch.device) -> StepRunner:
    """The runner of a training's steps."""
    records = execution in ("auto", "cuda-graphs", "compile-cuda-graphs") and device.type == "cuda"
    return StepRunner(CUDAGraphRecorder() if records else None)


def make_forward(model: nn.Module, execution: Execution) -> Callable[[Tensor], Tensor]:
    """The network's forward pass in training: N x channels x h x w images -> N x classes logits.

    A compiled one is compiled at its first call, for the shape of its images, together with its backward pass.
    """
    if execution not in ("compile", "compile-cuda-graphs"):
        return model
    # Dynamo compiles the same code for a limited number of networks, and then silently executes it eagerly.
    torch.compiler.reset()
    return torch.compile(model, dynamic=False)
