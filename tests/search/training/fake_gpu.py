"""Steps of all networks on a GPU that is not there, as a program: prints a JSON line for each network and type.

PyTorch's fake tensors know devices, types and shapes, but hold no numbers. Operations on tensors of two devices, or of
types that do not fit, fail as they would on a GPU. The backward pass cannot be taken without a GPU's driver, so the
gradients are made up. It is a program of its own, because PyTorch crashes when it collects such tensors as garbage.
"""

import gc
import json
import os
import sys
from dataclasses import replace

import numpy as np
import torch
from torch import nn

# NOTE: Private modules, because torch has no public way to make fake tensors, or to see every operation.
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mgnas.models import ArchitectureConfig, build_model
from mgnas.search.data.images import ImageDataset
from mgnas.search.training import trainer as trainer_module
from mgnas.search.training.trainer import Trainer
from mgnas.space import TrainingSettings

GROUPED = {"base_channels": (8, 16), "group_size": 4, "fully_coupled_channels": 4}
NETWORKS = {
    "resnet": {"family": "resnet", "base_channels": (8, 16), "blocks": 1},
    "mgnet AB": {"family": "mgnet", "base_channels": (8, 16)},
    "mgnet A": {"family": "mgnet", "base_channels": (8, 16), "sharing": "A"},
    "mgnet none": {"family": "mgnet", "base_channels": (8, 16), "sharing": "none"},
    "mgnet dense": {"family": "mgnet", "base_channels": (8, 16), "resolution_transfer": "dense"},
    "mgic": {"family": "mgic", "blocks": 2, **GROUPED},
    "mgiad": {"family": "mgiad", **GROUPED},
    "mgiad learned": {"family": "mgiad", "channel_transfer": "learned", **GROUPED},
    "mgiad wide": {"family": "mgiad", **GROUPED, "group_size": 1, "kernel_size": 7, "stem_stride": 2},
    "mgnet polynomial": {"family": "mgnet", "base_channels": (8, 16), "smoother": "polynomial", "polynomial_degree": 3},
    "mgiad polynomial": {"family": "mgiad", "smoother": "polynomial", "residual_activation": True, **GROUPED},
}
RECIPE = TrainingSettings(
    epochs=2, batch_size=16, crop_padding=2, flip=True, cutout=3, ema_decay=0.9, label_smoothing=0.1
)
MODERN = {"optimizer": "adamw", "learning_rate": 0.003, "crop_padding": 0, "random_resized_crop": 0.3}
RECIPES = {"plain": RECIPE, "modern": replace(RECIPE, **MODERN, mixup=0.2, cutmix=1.0)}
"""`plain` with all networks, `modern` with the first."""


class Copies(TorchDispatchMode):
    """A context that notes the operations whose operands and results lie on both the host and the device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.crossings = [], []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        # These change their operands only, and PyTorch has no fake kernels for them.
        if "fused_" in str(operation) or "_amp_foreach" in str(operation):
            result = None
        elif "_amp_update_scale" in str(operation):
            result = args[0]
        else:
            result = operation(*args, **(kwargs or {}))
        tensors = [leaf for leaf in _leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        self.operations.append(str(operation))
        if len({tensor.device.type for tensor in tensors}) > 1 and "empty" not in str(operation):
            self.crossings.append(str(operation))
        return result


def _leaves(tree):
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from _leaves(branch)
    else:
        yield tree


def fake_model(architecture: ArchitectureConfig, mode: FakeTensorMode) -> nn.Module:
    """The network on the GPU that is not there."""
    model = build_model(architecture).to(memory_format=torch.channels_last)
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = mode.from_tensor(tensor.detach())
                    with mode:
                        fake = fake.to("cuda")
                    tensors[name] = nn.Parameter(fake) if isinstance(tensor, nn.Parameter) else fake
    model.to = lambda *_, **__: model
    return model


def dry_run(network: str, recipe: str, precision: str, mode: FakeTensorMode) -> dict:
    """Train for an epoch and evaluate. Returns the operations that cross, and all operations of a step."""
    rng = np.random.default_rng(0)
    images = ImageDataset(rng.integers(0, 256, (50, 1, 8, 8), dtype=np.uint8), np.arange(50) % 10)
    architecture = ArchitectureConfig(in_channels=1, **NETWORKS[network])
    model, average = (fake_model(architecture, mode) for _ in range(2))
    # A real copy of fake tensors' memory would overwrite other memory.
    model.__deepcopy__ = lambda memo: average
    trainer_module.build_model = lambda _: model
    losses = []

    def backward(loss: torch.Tensor) -> None:
        losses.append((loss.device.type, str(loss.dtype)))
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)

    torch.Tensor.backward = backward
    with mode:
        trainer = Trainer(architecture, RECIPES[recipe], images, images, 0, "cuda", precision, "eager")
        trainer._step.total_loss = lambda: 1.0
        with Copies() as epoch:
            trainer._train_epoch()
        with Copies() as step:
            trainer._step()
        trainer_module.int = lambda count: count
        with Copies() as evaluation:
            correct = trainer._correct(trainer._evaluation)
    return {
        "network": network,
        "recipe": recipe,
        "precision": precision,
        "losses": losses,
        "epoch": epoch.crossings,
        "step": step.crossings,
        "evaluation": evaluation.crossings,
        "correct on": correct.device.type,
        "operations": step.operations,
    }


def main() -> None:
    gc.disable()
    # What a large GPU would answer.
    torch.cuda.mem_get_info = lambda device=None: (2**36, 2**36)
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.is_bf16_supported = lambda *_, **__: True
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    mode = FakeTensorMode(allow_non_fake_inputs=True, allow_fallback_kernels=False)
    runs = [(network, "plain") for network in NETWORKS] + [(next(iter(NETWORKS)), "modern")]
    precisions = ("float32", "bfloat16", "float16")
    for index, (network, recipe) in enumerate(runs):
        # Networks take the precisions in turn.
        for precision in precisions if "--all" in sys.argv else precisions[index % 3 :][:1]:
            print(json.dumps(dry_run(network, recipe, precision, mode)), flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
