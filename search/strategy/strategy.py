"""The searching logic: ask for a candidate, report its epochs, tell its end. Knows neither Ray nor torch.

An Optuna sampler proposes; the strategy sees to it that every proposal is worth its training:

- a candidate that was seen before, that is invalid or over budget is never handed out, but replaced by the nearest
  one that is new (plain samplers repeat a third of their proposals in spaces of some thousand points);
- weights are computed when a candidate is handed out, not learned;
- a stopping rule pauses what is not worth its next epoch now, and takes it up again when that changes;
- the sampler is told of complete trials only; failed and half-trained ones have no accuracy, NaN is a failure. What an
  unfinished curve lets expect stands beside its trial (PREDICTION), for samplers that can use it.
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

from mgnas.errors import ConfigError

from ...space.candidate import Candidate
from ...space.search_space import SearchSpace
from ..optuna_schema import DIRECTIONS, EXPECTED, OPTUNA_STATE, PREDICTION, REPEAT
from ..trial_record import GaussianPrediction, TrialRecord, TrialState
from .pausing import PausingRule

_MUTATIONS_PER_DISTANCE = 30


class Decision(enum.Enum):
    """What becomes of a trial after an epoch."""

    CONTINUE = enum.auto()
    PAUSE = enum.auto()
    STOP = enum.auto()


class Strategy:
    """Hands out candidates and learns from their results.

    Args:
        space: what can be handed out.
        sampler: proposes; any Optuna sampler for two objectives.
        trials: how many trials the whole search may have.
        seed: of the replacements and, plus the trial's number, of each training.
        records: trials of an earlier part of this search. Those still RUNNING are handed out again first.
        stopping: pauses trials; None: every trial runs to its end.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: BaseSampler,
        trials: int,
        seed: int = 0,
        records: Iterable[TrialRecord] = (),
        stopping: PausingRule | None = None,
    ) -> None:
        self.space = space
        self.trials = trials
        self.seed = seed
        self.records: list[TrialRecord] = []
        self.exhausted = False
        self._stopping = stopping
        self._rng = np.random.default_rng(seed)
        self._distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
        self._sampler_trials: dict[int, int] = {}
        self._seen: set[str] = set()
        self._unseen: list[Candidate] | None = None
        self._interrupted: list[TrialRecord] = []
        for record in records:
            self._adopt(record)

    @property
    def finished(self) -> bool:
        """Whether nothing will be handed out any more; `ask` may also have nothing while trials are running."""
        if self._interrupted or not self._last:
            return False
        if self._stopping is None:
            return True
        running = any(record.state is TrialState.RUNNING for record in self.records)
        return not running and self._resumption() is None

    def ask(self) -> TrialRecord | None:
        """The next trial to run: a new one, or one that was interrupted or paused and goes on behind its curve so far.

        Returns:
            its record; None when there are enough, or nothing new is left in the space. If trials are running then,
            ask again when one of them has ended or paused (see `finished`).
        """
        if self._interrupted:
            return self._interrupted.pop(0)
        record = self._resumed()
        if record is None and not self._last:
            # The new candidate, unless the space has none: then it is the last paused trials' turn.
            record = self._new_trial() or self._resumed()
        return record

    @property
    def _last(self) -> bool:
        """Whether no new candidate will come."""
        return self.exhausted or len(self.records) >= self.trials

    def _resumption(self) -> tuple[TrialRecord, str] | None:
        spare = self.exhausted and len(self.records) < self.trials
        return self._stopping.resume(self.records, self._last, spare)

    def _resumed(self) -> TrialRecord | None:
        """The paused trial that the stopping rule wants to go on, if any."""
        resumption = self._resumption() if self._stopping else None
        if resumption is None:
            return None
        record, reason = resumption
        record.state = TrialState.RUNNING
        record.decisions.append(f"epoch {len(record.curve)}: resumed, {reason}")
        return record

    def _new_trial(self) -> TrialRecord | None:
        """What the sampler proposes, or the nearest new candidate; None, and `exhausted`, if there is none."""
        self._tell_predictions()
        proposal = self._study.ask(self._distributions)
        notes = dict(self._study.get_trials(deepcopy=False)[proposal.number].system_attrs)
        candidate = self._candidate(proposal.params) if REPEAT in notes else self._nearest_new(proposal.params)
        if candidate is None:
            self._study.tell(proposal, state=OptunaState.FAIL)
            self.exhausted = True
            return None
        sampler_trial = proposal.number
        if candidate.params != proposal.params:
            self._study.tell(proposal, state=OptunaState.FAIL)
            # NOTE: The sampler's own notes go along; without its generation NSGA-II would never breed from the trial.
            sampler_trial = self._add(candidate, OptunaState.RUNNING, None, notes)
        number = len(self.records)
        expected = notes.pop(EXPECTED, None)
        record = TrialRecord(number, candidate, seed=self.seed + number, sampler_notes=notes)
        record.expected = expected and GaussianPrediction(*expected)
        self.records.append(record)
        self._seen.add(candidate.id)
        self._sampler_trials[number] = sampler_trial
        return record

    def _tell_predictions(self) -> None:
        """Put what unfinished curves let expect where the sampler finds it."""
        if self._stopping is None:
            return
        trials = self._study.get_trials(deepcopy=False)
        for record in self.records:
            if record.state not in (TrialState.RUNNING, TrialState.PAUSED):
                continue
            expected = self._stopping.curve_likelihood(record)
            if expected is not None:
                trial_id = trials[self._sampler_trials[record.number]]._trial_id
                value = [expected.mean, expected.std]
                self._study._storage.set_trial_system_attr(trial_id, PREDICTION, value)

    def report(self, number: int, curve: Sequence[float], seconds: float = 0.0) -> Decision:
        """Take note of a trial's progress, and say what becomes of it.

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
        if self._stopping is None or len(curve) >= record.candidate.training.epochs:
            return Decision.CONTINUE
        reason = self._stopping.pause(record, self.records)
        if reason is None:
            return Decision.CONTINUE
        record.state = TrialState.PAUSED
        record.decisions.append(f"epoch {len(curve)}: paused, {reason}")
        return Decision.PAUSE

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
        if self._stopping:
            self._stopping.complete(record)
        self._study.tell(self._sampler_trials[number], (record.accuracy, float(record.weights)))

    def fail(self, number: int, reason: str) -> None:
        """The trial has ended without a result; it is not tried again."""
        record = self.records[number]
        if record.state is TrialState.RUNNING:
            record.state, record.reason = TrialState.FAILED, reason
            self._study.tell(self._sampler_trials[number], state=OptunaState.FAIL)

    def interrupt(self, number: int) -> None:
        """The trial has lost its worker before it could go on; it is handed out again first."""
        self._interrupted.append(self.records[number])

    def _adopt(self, record: TrialRecord) -> None:
        """Take over a record of an earlier part of the search."""
        # NOTE: For the sampler a paused trial is a running one: Optuna would hand out a waiting one by itself.
        state = OptunaState.RUNNING if record.state is TrialState.PAUSED else OPTUNA_STATE[record.state]
        values = (record.accuracy, float(record.weights)) if record.state is TrialState.COMPLETE else None
        self._sampler_trials[record.number] = self._add(record.candidate, state, values, record.sampler_notes)
        self._seen.add(record.candidate.id)
        self.records.append(record)
        if record.state is TrialState.RUNNING:
            self._interrupted.append(record)
        if record.state is TrialState.COMPLETE and self._stopping:
            self._stopping.complete(record)

    def _add(self, candidate: Candidate, state: OptunaState, values, system_attrs: dict) -> int:
        trial: FrozenTrial = create_trial(
            state=state,
            values=values,
            params=candidate.params,
            distributions=self._distributions,
            system_attrs=system_attrs,
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def _candidate(self, values: dict) -> Candidate | None:
        try:
            return self.space.candidate(values)
        except ConfigError:
            return None

    def _new(self, values: dict) -> Candidate | None:
        candidate = self._candidate(values)
        return None if candidate is None or candidate.id in self._seen else candidate

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
        if self.space.enumerable:
            if self._unseen is None:
                self._unseen = list(self.space.enumerate())
                self._rng.shuffle(self._unseen)
            while self._unseen:
                candidate = self._unseen.pop()
                if candidate.id not in self._seen:
                    return candidate
            return None
        for _ in range(20_000):
            candidate = self._new(self.space.random_values(self._rng))
            if candidate is not None:
                return candidate
        return None
