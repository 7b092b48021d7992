"""The searching logic: ask for a candidate, report its epochs, tell its end. Knows neither Ray nor torch.

An Optuna sampler proposes; the strategy sees to it that every proposal is worth its training:

- a candidate that was seen before, that is invalid or over budget is never handed out, but replaced by the nearest
  one that is new (plain samplers repeat a third of their proposals in spaces of some thousand points);
- weights are computed when a candidate is handed out, not learned;
- the sampler is told of complete trials only; failed and half-trained ones have no accuracy, NaN is a failure.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from ..models.errors import ConfigError
from ..space.candidate import Candidate
from ..space.search_space import ENUMERABLE, SearchSpace
from .trial_record import TrialRecord, TrialState

DIRECTIONS = ("maximize", "minimize")
"""Of the objectives (validation accuracy, weights), in this order, in every Optuna study of mgnas."""

OPTUNA_STATE = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.FAILED: OptunaState.FAIL,
}
"""What a trial's state is called there."""

_MUTATIONS_PER_DISTANCE = 30


class Decision(enum.Enum):
    """What becomes of a trial after an epoch."""

    CONTINUE = enum.auto()
    STOP = enum.auto()


class Strategy:
    """Hands out candidates and learns from their results.

    Args:
        space: what can be handed out.
        sampler: proposes; any Optuna sampler for two objectives.
        trials: how many trials the whole search may have.
        seed: of the replacements and, plus the trial's number, of each training.
        records: trials of an earlier part of this search. Those still RUNNING are handed out again first.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: BaseSampler,
        trials: int,
        seed: int = 0,
        records: Iterable[TrialRecord] = (),
    ) -> None:
        self.space = space
        self.trials = trials
        self.seed = seed
        self.records: list[TrialRecord] = []
        self.exhausted = False
        self._rng = np.random.default_rng(seed)
        self._distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
        self._sampler_trials: dict[int, int] = {}
        self._seen: set[str] = set()
        self._interrupted: list[TrialRecord] = []
        for record in records:
            self._adopt(record)

    def ask(self) -> TrialRecord | None:
        """The next trial to run; None when there are enough, or nothing new is left in the space."""
        if self._interrupted:
            return self._interrupted.pop(0)
        if self.exhausted or len(self.records) >= self.trials:
            return None
        proposal = self._study.ask(self._distributions)
        candidate = self._nearest_new(proposal.params)
        if candidate is None:
            self._study.tell(proposal, state=OptunaState.FAIL)
            self.exhausted = True
            return None
        sampler_trial = proposal.number
        notes = dict(self._study.get_trials(deepcopy=False)[proposal.number].system_attrs)
        if candidate.values != proposal.params:
            self._study.tell(proposal, state=OptunaState.FAIL)
            # NOTE: The sampler's own notes go along; without its generation NSGA-II would never breed from the trial.
            sampler_trial = self._add(candidate, OptunaState.RUNNING, None, notes)
        number = len(self.records)
        record = TrialRecord(number, candidate, seed=self.seed + number, sampler_notes=notes)
        self.records.append(record)
        self._seen.add(candidate.id)
        self._sampler_trials[number] = sampler_trial
        return record

    def report(self, number: int, curve: Sequence[float], seconds: float = 0.0) -> Decision:
        """Take note of a trial's progress.

        Args:
            number: the trial.
            curve: accuracy after each of its epochs so far, from the first.
            seconds: training time so far.
        """
        record = self.records[number]
        if record.state is not TrialState.RUNNING:
            return Decision.STOP
        for epoch, accuracy in enumerate(curve, start=1):
            if not math.isfinite(accuracy):
                self.fail(number, f"the accuracy became {accuracy} in epoch {epoch}")
                return Decision.STOP
        record.curve, record.seconds = list(curve), seconds
        return Decision.CONTINUE

    def complete(self, number: int) -> None:
        """The trial has run all its epochs; the last reported accuracy is its result."""
        record = self.records[number]
        if record.state is not TrialState.RUNNING:
            return
        if len(record.curve) < record.candidate.training.epochs:
            missing = f"{len(record.curve)} of {record.candidate.training.epochs} epochs"
            self.fail(number, f"ended after {missing}")
            return
        record.state = TrialState.COMPLETE
        self._study.tell(self._sampler_trials[number], (record.accuracy, float(record.weights)))

    def fail(self, number: int, reason: str) -> None:
        """The trial has ended without a result; it is not tried again."""
        record = self.records[number]
        if record.state is TrialState.RUNNING:
            record.state, record.reason = TrialState.FAILED, reason
            self._study.tell(self._sampler_trials[number], state=OptunaState.FAIL)

    def _adopt(self, record: TrialRecord) -> None:
        """Take over a record of an earlier part of the search."""
        state = OPTUNA_STATE[record.state]
        values = (record.accuracy, float(record.weights)) if record.state is TrialState.COMPLETE else None
        self._sampler_trials[record.number] = self._add(record.candidate, state, values, record.sampler_notes)
        self._seen.add(record.candidate.id)
        self.records.append(record)
        if record.state is TrialState.RUNNING:
            self._interrupted.append(record)

    def _add(self, candidate: Candidate, state: OptunaState, values, system_attrs: dict) -> int:
        trial: FrozenTrial = create_trial(
            state=state,
            values=values,
            params=candidate.values,
            distributions=self._distributions,
            system_attrs=system_attrs,
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def _new(self, values: dict) -> Candidate | None:
        try:
            candidate = self.space.candidate(values)
        except ConfigError:
            return None
        return None if candidate.id in self._seen else candidate

    def _nearest_new(self, values: dict) -> Candidate | None:
        """The proposal itself if it is valid and new; else the first such candidate on growing distances from it."""
        candidate = self._new(values)
        if candidate is not None:
            return candidate
        reach = 2 * len(self.space.parameters)
        for distance in range(1, reach + 1):
            for _ in range(_MUTATIONS_PER_DISTANCE):
                moved = values
                for _ in range(1 + distance // len(self.space.parameters)):
                    moved = self.space.mutate(moved, min(distance, len(self.space.parameters)), self._rng)
                candidate = self._new(moved)
                if candidate is not None:
                    return candidate
        return self._any_new()

    def _any_new(self) -> Candidate | None:
        """A new candidate from anywhere; None if there is none (or, in a huge space, none to be found)."""
        points = self.space.points()
        if points is not None and points <= ENUMERABLE:
            unseen = [candidate for candidate in self.space.enumerate() if candidate.id not in self._seen]
            return unseen[self._rng.integers(len(unseen))] if unseen else None
        for _ in range(20_000):
            candidate = self._new(self.space.random_values(self._rng))
            if candidate is not None:
                return candidate
        return None
