"""What accuracy another training of a trial's network would reach: the best of many noisy results is partly luck.

The search's Gaussian process of the error is fitted to all complete trials. It learns how much two trainings of the
same network differ, and what similar networks reach. Its posterior mean at a trial's network is the accuracy to expect
of another training. What the trial has above that is the winner's curse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgnas.errors import UserError

from ...search.samplers.features import LEAST_TRAININGS, architecture_features
from ...search.samplers.gaussian_process import AccuracyModel
from ...search.samplers.gp_hyperparameters import ModelFitError
from ...search.samplers.outcome_transforms import LogErrorTransform
from ...search.trial_record import CompletedTrial


@dataclass(frozen=True)
class Expected:
    """What is expected of another training of a trial's network, by the search's recipe.

    Args:
        accuracy: median, as a fraction.
        noise: standard deviation between trainings of this network, as a fraction.
        winners_curse: the trial's own accuracy minus `accuracy`; negative if the trial was unlucky.
    """

    accuracy: float
    noise: float
    winners_curse: float

    def in_words(self) -> str:
        luck = "good" if self.winners_curse > 0 else "bad"
        points = f"{100 * abs(self.winners_curse):.2f} points of the trial's own are {luck} luck"
        return f"{100 * self.accuracy:.2f} % +- {100 * self.noise:.2f} expected of another training; {points}"


def expected_accuracies(trials: Sequence[CompletedTrial]) -> dict[int, Expected]:
    """Trial number -> what to expect of another training.

    Raises:
        UserError: fewer than 8 trials, or the model cannot be fitted.
    """
    if len(trials) < LEAST_TRAININGS:
        has = f"at least {LEAST_TRAININGS} complete trials; this run has {len(trials)}"
        raise UserError(f"--prefer expected: how noisy accuracies are is learned from {has}")
    # On the scale of log errors a network that failed to learn is no outlier, which would pass for noise.
    scale = LogErrorTransform()
    x = np.stack([architecture_features(trial.architecture) for trial in trials])
    accuracy = np.array([trial.accuracy for trial in trials])
    try:
        posterior = AccuracyModel().fit(x, scale.transform(accuracy), np.zeros(len(x)))
        mean, _ = posterior.predict(x)
    except ModelFitError as error:
        raise UserError(f"--prefer expected: the accuracies cannot be modelled ({error})") from None
    medians = np.clip(scale.untransform(mean), 0, 1)
    # To first order: dz = dy / (1 + offset - y).
    stds = posterior.noise * (1 + scale.offset - medians)
    return {
        trial.number: Expected(float(median), float(std), float(trial.accuracy - median))
        for trial, median, std in zip(trials, medians, stds, strict=True)
    }
