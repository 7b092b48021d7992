"""What tests of whole trainings share: recipes, a small trainer, and its state."""

import numpy as np
import pytest
import torch

from mgnas.search.training.trainer import Trainer
from mgnas.space import TrainingSettings


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"epochs": 4, "batch_size": 16, "crop_padding": 1, "flip": True} | changes))


ADAMW = {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.05}
MODERN = ADAMW | {
    "crop_padding": 0,
    "random_resized_crop": 0.3,
    "augmentation": "trivial",
    "cutout": 2,
    "mixup": 0.2,
    "cutmix": 1.0,
    "ema_decay": 0.9,
}


@pytest.fixture
def start(numbered, tiny):
    """Keywords -> a trainer on 40 images of 2 classes, measured on 8 others."""
    images = numbered([24, 24])
    train, evaluation = images.take(np.arange(40)), images.take(np.arange(40, 48))

    def make(recipe=None, architecture=None, seed=0, train=train, evaluation=evaluation) -> Trainer:
        architecture = architecture or tiny(num_classes=2)
        return Trainer(architecture, recipe or settings(), train, evaluation, seed)

    return make


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything that the next epoch depends on: weights, batch norm statistics, the optimizer's state."""
    moments = {
        f"{name} {i}": tensor
        for i, tensors in trainer.optimizer.state_dict()["state"].items()
        for name, tensor in tensors.items()
    }
    return {name: tensor.clone() for name, tensor in (trainer.model.state_dict() | moments).items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def curve(trainer: Trainer) -> list[tuple]:
    return [(result.epoch, result.loss, result.accuracy) for result in trainer.history]


def train_to_the_end(trainer: Trainer) -> Trainer:
    while not trainer.finished:
        trainer.run_epoch()
    return trainer
