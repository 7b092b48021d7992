"""A trial as Ray Tune sees it. It imports only what a worker needs, because workers start on every node."""

from __future__ import annotations

import socket
from typing import Any

from ray import tune

from .node import NodeRequirements
from .worker import stopping


class RayTrial(tune.Trainable):
    """Trains a trial, one epoch a step. The process is used again for further trials, unless its GPU has failed."""

    # `tune.with_parameters` adds arguments to those of Ray's own `setup`.
    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, config: dict[str, Any], worker: type, needs: NodeRequirements
    ) -> None:
        self._worker_class, self._trouble = worker, needs.ensure()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._worker = None if self._trouble else self._worker_class(new_config["task"])
        return True

    def step(self) -> dict[str, Any]:
        """One epoch of the trial; on a node that cannot train, the reason why the search must stop.

        Raises:
            RuntimeError: this process can no longer use its GPU. Ray replaces it then, and the trial starts again, as
                after any death of its process.
        """
        if self._worker is None:
            result = stopping(f"node {socket.gethostname()} {self._trouble}")
        else:
            result = self._worker.step()
        if result.get("broken"):
            raise RuntimeError(f"the process can no longer use its GPU ({result['failure']})")
        ended = result["finished"] or result["failure"] is not None or result.get("stop") is not None
        accuracy = {"accuracy": result["curve"][-1]} if result["curve"] else {}
        return result | accuracy | {"done": ended}
