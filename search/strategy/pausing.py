"""Which trials are not worth their next epoch now: they are paused, and resumed when that changes.

Optuna's pruners and Ray Tune's schedulers refuse several objectives. Here a rule is asked after every epoch of a trial
whether to pause it, and before every new candidate whether a paused trial deserves the worker more. Rules know neither
Ray nor torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter

from ..trial_record import CompletedTrial, TrialRecord, TrialState
from .learning_curves import CurveModel, Prediction


class PausingRule(ABC):
    """Pauses trials and resumes them."""

    def complete(self, trial: CompletedTrial) -> None:  # noqa: B027 - not every rule learns from curves
        """A trial has run all its epochs."""

    def curve_likelihood(self, record: TrialRecord) -> Prediction | None:
        """What an unfinished trial's curve says of its final accuracy, for the sampler; None: nothing yet."""
        return None

    @abstractmethod
    def pause(self, record: TrialRecord, records: Sequence[TrialRecord]) -> str | None:
        """Why to pause a trial that has just reported an epoch and has more to come; None: it goes on."""

    @abstractmethod
    def resume(self, records: Sequence[TrialRecord], last: bool, spare: bool) -> tuple[TrialRecord, str] | None:
        """The paused trial to resume now, and why; None: none.

        Args:
            records: all trials.
            last: whether no new candidate will come. A trial that is not worth resuming now, or after a later change,
                stays paused for good.
            spare: whether the space has no other candidate, although more trials were granted. Then all paused trials
                should be resumed in the end.
        """


class ParetoPausing(PausingRule):
    """Pauses a trial if the upper quantile of its predicted final accuracy is not above what fewer weights reach.

    With A(w) = the best final accuracy of a complete trial with at most w weights, a trial of w weights is paused if

        mean + deviations * std <= A(w)

    so a small network is never paused for being worse than a large one. The prediction sharpens as further trials end:
    a paused trial that may beat A(w) then is resumed. Once there are no new candidates, those that may at the more
    generous `last_deviations` are resumed as well, and if the whole space is trained, all are.

    Args:
        model: predicts.
        deviations: standard deviations above the mean that a trial is granted.
        last_deviations: the same once there are no new candidates.
    """

    def __init__(self, model: CurveModel, deviations: float = 2.0, last_deviations: float = 3.0) -> None:
        self.model, self.deviations, self.last_deviations = model, deviations, last_deviations
        self._rivals = Rivals()

    def complete(self, trial: CompletedTrial) -> None:
        self.model.add(trial.curve)
        self._rivals.add(trial)

    def curve_likelihood(self, record: TrialRecord) -> Prediction | None:
        return self.model.curve_likelihood(record.curve)

    def predict(self, record: TrialRecord) -> Prediction | None:
        """The final accuracy expected of a trial, by its curve and by what the sampler expected of its network."""
        expected = record.expected
        return self.model.predict(record.curve, expected and Prediction(expected.mean, expected.std))

    def pause(self, record: TrialRecord, records: Sequence[TrialRecord]) -> str | None:
        predicted, rival = self.predict(record), self._rivals.best(record.weights)
        if predicted is None or rival is None or predicted.quantile(self.deviations) > rival.accuracy:
            return None
        better = f"trial {rival.number} has {100 * rival.accuracy:.2f} % with {rival.weights:,} weights"
        return f"{_in_words(predicted)}; {better}"

    def resume(self, records: Sequence[TrialRecord], last: bool, spare: bool) -> tuple[TrialRecord, str] | None:
        deviations = self.last_deviations if last else self.deviations
        largest_lead, chosen = -math.inf if spare else 0.0, None
        for record in records:
            if record.state is not TrialState.PAUSED:
                continue
            predicted, rival = self.predict(record), self._rivals.best(record.weights)
            lead = math.inf if predicted is None or rival is None else predicted.quantile(deviations) - rival.accuracy
            if lead > largest_lead:
                reason = f"{_in_words(predicted)} now" if predicted else "nothing speaks against it now"
                largest_lead, chosen = lead, (record, reason if lead > 0 else NOTHING_ELSE)
        return chosen


NOTHING_ELSE = "the space has nothing else to train"
"""Why a trial is resumed although it promises nothing."""


class Rivals:
    """A(w): the complete trials that are more accurate than all others with at most as many weights."""

    def __init__(self) -> None:
        self._staircase: list[CompletedTrial] = []

    def add(self, trial: CompletedTrial) -> None:
        before = self.best(trial.weights)
        if before is not None and before.accuracy >= trial.accuracy:
            return
        start = end = bisect_left(self._staircase, trial.weights, key=_weights)
        while end < len(self._staircase) and self._staircase[end].accuracy <= trial.accuracy:
            end += 1
        self._staircase[start:end] = [trial]

    def best(self, weights: int) -> CompletedTrial | None:
        """The most accurate trial with at most this number of weights; of equally accurate ones the first added."""
        index = bisect_right(self._staircase, weights, key=_weights)
        return self._staircase[index - 1] if index else None


_weights = attrgetter("weights")


def make_pausing_rule(name: str, epochs: int, others: Sequence[Sequence[float]] = ()) -> PausingRule | None:
    """The rule of that name: pareto, or None for none or a training of one epoch, which leaves nothing to save.

    Args:
        name: as in a config's `search.stopping`.
        epochs: of a whole training.
        others: whole curves on other data, for the prediction.
    """
    return None if name == "none" or epochs < 2 else ParetoPausing(CurveModel(epochs, others))


def _in_words(predicted: Prediction) -> str:
    return f"{100 * predicted.mean:.2f} % +- {100 * predicted.std:.2f} expected"
