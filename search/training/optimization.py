"""All that a training step changes: weights, the optimizer's state, loss scale and the average of the weights.

Everything has its place in memory before the first step, and keeps it, because recorded steps work on the same memory.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...models.foreach import copy_all
from ...space.candidate import TrainingSettings

_SECOND_MOMENT_DECAY = 0.999
"""Decay of AdamW's mean of the squared gradients."""


class Optimization:
    """SGD with Nesterov momentum or AdamW, gradient clipping and an average of the weights.

    Args:
        model: the network, on its device.
        settings: the recipe.
        device: of the network.
        scales_loss: whether the loss is scaled, which float16 needs.
    """

    def __init__(self, model: nn.Module, settings: TrainingSettings, device: torch.device, scales_loss: bool) -> None:
        self.model, self._settings, self._device, self._scales_loss = model, settings, device, scales_loss
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        # PyTorch's kernels read the rate as float32 on a GPU and as float64 on a CPU.
        self.rate = torch.zeros(1, dtype=torch.float32 if device.type == "cuda" else torch.float64, device=device)
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._parameters = matrices + vectors
        self.optimizer = _make_optimizer(groups, settings, device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        # NOTE: PyTorch would make it in the first step, and leave momentum undefined if float16 overflows in that step.
        for parameter in self._parameters:
            self.optimizer.state[parameter].update(_first_state(parameter, settings))
        self._scaler = self._new_scaler()
        self._average = AveragedModel(model) if settings.ema_decay else None
        self._average_has_begun = False

    @property
    def trained_model(self) -> nn.Module:
        """The network to evaluate and keep: with the averaged weights if the recipe has an average."""
        return self.model if self._average is None else self._average.module

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of the loss, at the rate in `rate`."""
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        if self._settings.gradient_clip:
            self._scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.gradient_clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._average is not None:
            self._update(self._average)

    def _update(self, average: AveragedModel) -> None:
        # NOTE: AveragedModel's own update would copy its counter to the GPU in every step.
        ours, theirs = (list(chain(net.parameters(), net.buffers())) for net in (average.module, self.model))
        if self._average_has_begun:
            get_ema_multi_avg_fn(self._settings.ema_decay)(ours, theirs, average.n_averaged)
            return
        with torch.no_grad():
            copy_all(ours, theirs)
        self._average_has_begun = True
        average.n_averaged.fill_(1)

    def state(self) -> dict[str, Any]:
        """Everything that a step changes. It is not a copy."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Return to a state. Recorded steps are of no use afterwards.

        Raises:
            KeyError, RuntimeError, TypeError or AttributeError: the state is that of another network or recipe.
        """
        self.model.load_state_dict(state["model"])
        # In place, because PyTorch's kernels need momentum in the weights' memory layout.
        for index, parameter in enumerate(self._parameters):
            for name, tensor in self.optimizer.state[parameter].items():
                tensor.copy_(state["optimizer"]["state"][index][name])
        # A new scaler, because the old one may be in the middle of a step.
        self._scaler = self._new_scaler()
        if self._scales_loss and state["scaler"]:
            # A state without a scale comes from a machine that does not compute in float16.
            self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
            self._average_has_begun = bool(self._average.n_averaged)

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self._device.type, enabled=self._scales_loss)


def _make_optimizer(
    groups: list[dict[str, Any]], settings: TrainingSettings, device: torch.device
) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True)
    betas = (settings.momentum, _SECOND_MOMENT_DECAY)
    return torch.optim.AdamW(groups, betas=betas, fused=True, capturable=device.type == "cuda")


def _first_state(parameter: nn.Parameter, settings: TrainingSettings) -> dict[str, Tensor]:
    """The optimizer's state of a parameter before the first step, by PyTorch's names."""
    if settings.optimizer == "adamw":
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": torch.zeros((), device=parameter.device), **moments}
    return {"momentum_buffer": torch.zeros_like(parameter)} if settings.momentum else {}
