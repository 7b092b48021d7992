"""A trial as a process of Ray sees it. Only what a worker needs is imported here: workers start on every node."""

from __future__ import annotations

import socket
from typing import Any

from ray import tune

from .node import NodeRequirements
from .worker import stopping


class RayTrial(tune.Trainable):
    """One epoch a step; the process is used again for the next trial."""

    def setup(self, config: dict[str, Any], worker: type, needs: NodeRequirements) -> None:
        self._kind, self._needs = worker, needs
        self._trouble = needs.ensure()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._worker = None if self._trouble else self._kind(new_config["task"])
        return True

    def step(self) -> dict[str, Any]:
        if self._worker is None:
            result = stopping(f"node {socket.gethostname()} {self._trouble}")
        else:
            result = self._worker.step()
        ended = result["finished"] or result["failure"] is not None or result.get("stop") is not None
        accuracy = {"accuracy": result["curve"][-1]} if result["curve"] else {}
        return result | accuracy | {"done": ended}
