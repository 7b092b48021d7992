"""benchmarks/training/observed_trainer.py: what is observed in a training."""

import math
from dataclasses import replace

import pytest
import torch
from observed_trainer import LAST_EPOCHS, ObservedTrainer, Quality
from resumable import Job

from mgnas.models import ArchitectureConfig
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.trainer import Trainer
from mgnas.space.candidate import TrainingSettings

DECAY = 0.9
IMAGES = DataSettings(name="digits", train_images=100, validation_fraction=0.4)
DATASET = load_dataset(IMAGES)
NETWORK = ArchitectureConfig(family="mgnet", base_channels=(4, 8), in_channels=1)
RECIPE = TrainingSettings(epochs=5, batch_size=32, label_smoothing=0.1)


def trained(trainer: Trainer) -> Trainer:
    while not trainer.finished:
        trainer.run_epoch()
    return trainer


def accuracies(recipe: TrainingSettings) -> list[float | None]:
    """Of an ordinary training, after each of the last epochs."""
    trainer = trained(Trainer(NETWORK, recipe, DATASET.train, DATASET.validation, 0))
    return [epoch.accuracy for epoch in trainer.history[-LAST_EPOCHS:]]


@pytest.mark.parametrize("own_decay", [0.0, DECAY])
def test_weights_and_their_average_are_observed_in_one_training(own_decay):
    """The weights of a training without an average, and the average of one with it."""
    recipe = replace(RECIPE, ema_decay=own_decay)
    observed = ObservedTrainer(Job({}, 0, NETWORK, recipe, IMAGES), DATASET, 0.5 if own_decay else DECAY)
    trained(observed)
    assert [quality.accuracy for quality in observed.plain] == accuracies(RECIPE)
    assert [quality.accuracy for quality in observed.averaged] == accuracies(replace(RECIPE, ema_decay=DECAY))
    assert observed.plain != observed.averaged
    by_recipe = observed.averaged if own_decay else observed.plain
    assert observed.evaluate(DATASET.validation) == by_recipe[-1].accuracy
    plain = trained(Trainer(NETWORK, RECIPE, DATASET.train, None, 0))
    assert all(map(torch.equal, observed.model.state_dict().values(), plain.model.state_dict().values()))


def test_quality_of_known_logits():
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.6, 0.4]]))
    quality = Quality.of(logits, torch.tensor([0, 1]))
    assert quality.accuracy == 0.5
    assert quality.probability == pytest.approx(0.6)
    assert quality.cross_entropy == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
