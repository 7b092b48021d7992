"""What a trial's accuracy would be if it were trained again: the best of many noisy results is partly luck.

A Gaussian process of the error (that of the search) learns from all complete trials how much two trainings of the same
network differ, and what networks like this one reach. Its posterior mean at a trial's network is the accuracy to expect
of another training; what the trial has above that is the winner's curse.
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
from ...search.trial_record import TrialRecord
from .pareto import complete


@dataclass(frozen=True)
class Expected:
    """What is expected of another training of a trial's network, by the search's recipe.

    Args:
        accuracy: median, as a fraction.
        noise: standard deviation between trainings there.
        curse: what the trial's own accuracy has above `accuracy`; below 0: it was unlucky.
    """

    accuracy: float
    noise: float
    curse: float

    def in_words(self) -> str:
        luck = f"{100 * abs(self.curse):.2f} points of the trial's own are {'good' if self.curse > 0 else 'bad'} luck"
        return f"{100 * self.accuracy:.2f} % +- {100 * self.noise:.2f} expected of another training; {luck}"


def expected_accuracies(records: Sequence[TrialRecord]) -> dict[int, Expected]:
    """Trial number -> what to expect, for all complete trials.

    Raises:
        UserError: fewer than 8 complete trials, or the model cannot be fitted.
    """
    finished = complete(records)
    if len(finished) < LEAST_TRAININGS:
        has = f"at least {LEAST_TRAININGS} complete trials; this run has {len(finished)}"
        raise UserError(f"--prefer expected: how noisy accuracies are is learned from {has}")
    # Networks that failed to learn are told apart from noise by the logarithm of the error.
    scale = LogErrorTransform()
    x = np.stack([architecture_features(record.candidate.architecture) for record in finished])
    accuracy = np.array([record.accuracy for record in finished])
    try:
        posterior = AccuracyModel().fit(x, scale.transform(accuracy), np.zeros(len(x)))
        mean, _ = posterior.predict(x)
    except ModelFitError as error:
        raise UserError(f"--prefer expected: the accuracies cannot be modelled ({error})") from None
    medians = np.clip(scale.untransform(mean), 0, 1)
    # To first order: dz = dy / (1 + offset - y).
    noise = posterior.noise * (1 + scale.offset - medians)
    return {
        record.number: Expected(float(median), float(sd), float(record.accuracy - median))
        for record, median, sd in zip(finished, medians, noise, strict=True)
    }
