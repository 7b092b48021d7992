"""How sure a run's front is, and what accuracy another training of a network would reach.

The best of many noisy results is partly luck. The search's model of the error is fitted to all complete trials. It
learns what similar networks reach, and is told how far single trainings can be trusted. Its samples of the accuracies
without luck (search/samplers/outlook/front_posterior.py) tell how probable it is that a network belongs to the front,
and between which limits the best accuracy within a budget lies. What a trial has above the mean is the winner's curse.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgnas.errors import UserError

from ...search.samplers.features import LEAST_TRAININGS, architecture_features
from ...search.samplers.gp_hyperparameters import ModelFitError
from ...search.samplers.outcome_transforms import LogErrorTransform
from ...search.samplers.outlook.front_posterior import FrontPosterior
from ...search.trial_record import CompletedTrial

INTERVAL = 0.9
"""Probability of an interval of the best accuracy."""
_LEAST_INFORMATION = 0.002
"""Trainings that tell less about the front are not worth their time."""


@dataclass(frozen=True)
class Expected:
    """What is expected of another training of a trial's network, by the search's recipe.

    Args:
        accuracy: median, as a fraction.
        noise: standard deviation between trainings of this network, as a fraction.
        winners_curse: the trial's own accuracy minus `accuracy`; negative if the trial was unlucky.
        on_front: probability that no other trial's network beats it in weights and accuracy, luck left out.
        information: how much retraining it would tell about the front: the variance of all memberships that it decides.
    """

    accuracy: float
    noise: float
    winners_curse: float
    on_front: float
    information: float

    def in_words(self) -> str:
        luck = "good" if self.winners_curse > 0 else "bad"
        points = f"{100 * abs(self.winners_curse):.2f} points of the trial's own are {luck} luck"
        return f"{100 * self.accuracy:.2f} % +- {100 * self.noise:.2f} expected of another training; {points}"


@dataclass(frozen=True)
class BestWithin:
    """The interval in which the accuracy of the best network within a budget lies with the probability INTERVAL.

    Args:
        weights: the budget.
        low, high: of the accuracy of a network whose training is neither lucky nor unlucky, as fractions.
    """

    weights: int
    low: float
    high: float


@dataclass(frozen=True)
class FrontConfidence:
    """How sure a run's front is.

    Args:
        expected: trial number -> what is expected of its network.
        best_within: for each number of weights at which the interval changes, ascending.
    """

    expected: Mapping[int, Expected]
    best_within: Sequence[BestWithin]

    def within(self, weights: int) -> BestWithin | None:
        """The interval for a budget; None if no network keeps it."""
        index = bisect_right(self.best_within, weights, key=lambda step: step.weights)
        return self.best_within[index - 1] if index else None

    def in_words(self, trial: CompletedTrial) -> str:
        """`on the front with 83 %; the best of at most 41,000 weights has 97.10 to 98.20 % (with 90 %)`."""
        words = f"on the front with {100 * self.expected[trial.number].on_front:.0f} %"
        best = self.within(trial.weights)
        if best is None:
            return words
        limits = f"{100 * best.low:.2f} to {100 * best.high:.2f} % (with {100 * INTERVAL:.0f} %)"
        return f"{words}; the best of at most {trial.weights:,} weights has {limits}"

    def doubtful(self, trials: Sequence[CompletedTrial], count: int) -> list[CompletedTrial]:
        """At most `count` of the trials: those whose retraining decides most about the front, the first one most."""
        telling = [trial for trial in trials if self.expected[trial.number].information > _LEAST_INFORMATION]
        return sorted(telling, key=lambda trial: -self.expected[trial.number].information)[:count]


def front_confidence(
    trials: Sequence[CompletedTrial], images: int | None, option: str = "--prefer expected"
) -> FrontConfidence:
    """How sure the front of these trials is; takes about a second.

    Args:
        trials: all complete ones of a run.
        images: number of validation images, which says how noisy accuracies are; None: not known.
        option: that needs the answer, for the message.

    Raises:
        UserError: fewer than 8 trials, or the model cannot be fitted.
    """
    if len(trials) < LEAST_TRAININGS:
        has = f"at least {LEAST_TRAININGS} complete trials; this run has {len(trials)}"
        raise UserError(f"{option}: how noisy accuracies are is learned from {has}")
    # On the scale of log errors a network that failed to learn is no outlier, which would pass for noise.
    scale = LogErrorTransform()
    x = np.stack([architecture_features(trial.architecture) for trial in trials])
    log_weights = np.array([math.log10(trial.weights) for trial in trials])
    try:
        posterior = FrontPosterior.of(x, np.array([trial.accuracy for trial in trials]), log_weights, images)
    except ModelFitError as error:
        raise UserError(f"{option}: the accuracies cannot be modelled ({error})") from None
    medians = np.clip(scale.untransform(posterior.mean), 0, 1)
    # To first order: dz = dy / (1 + offset - y).
    stds = posterior.noise * (1 + scale.offset - medians)
    columns = zip(trials, medians, stds, posterior.membership(), posterior.information(), strict=True)
    expected = {
        trial.number: Expected(float(median), float(std), float(trial.accuracy - median), float(part), float(told))
        for trial, median, std, part, told in columns
    }
    return FrontConfidence(expected, _best_within(posterior, sorted({trial.weights for trial in trials}), scale))


def _best_within(posterior: FrontPosterior, weights: Sequence[int], scale: LogErrorTransform) -> list[BestWithin]:
    """The intervals, without those that are equal to that of the next smaller budget."""
    tails = (1 - INTERVAL) / 2
    quantiles = posterior.best_within(np.log10(weights), [tails, 1 - tails])
    steps: list[BestWithin] = []
    for budget, *limits in zip(weights, *np.clip(scale.untransform(quantiles), 0, 1), strict=True):
        low, high = (round(float(limit), 6) for limit in limits)
        if math.isfinite(low) and (not steps or (low, high) != (steps[-1].low, steps[-1].high)):
            steps.append(BestWithin(budget, low, high))
    return steps
