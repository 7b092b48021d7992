"""The logic of a search: ask for a candidate, report its epochs, tell its end. Knows neither Ray nor torch.

An Optuna sampler proposes. The strategy sees to it that every proposal is worth its training:

- A candidate that was seen before, that is invalid or over budget is never handed out. It is replaced by the nearest
  new one; plain samplers repeat a third of their proposals in spaces of some thousand points.
- Weights are computed when a candidate is handed out, not learned.
- A pausing rule pauses a trial that is not worth its next epoch now, and resumes it when that changes.
- The sampler learns of complete trials only. Failed and half-trained ones have no accuracy; a curve with NaN fails.
- A ModelBasedSampler is also told what unfinished curves predict.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from mgnas.errors import ConfigError

from ...space.candidate import Candidate
from ...space.search_space import SearchSpace
from ..config import Until
from ..optuna_schema import DIRECTIONS, OPTUNA_STATE
from ..samplers.model_based import ModelBasedSampler
from ..trial_record import CompletedTrial, ExpectedGain, GaussianPrediction, TrialRecord, TrialState
from .enough import gains_so_far, is_enough
from .pausing import PausingRule

_MUTATIONS_PER_DISTANCE = 30
"""Random neighbours tried at each distance from a proposal that is not new."""
_GAIN_SHARE = 0.01
"""Further trials, as a share of those so far, after which the expected gain is worked out anew."""
_RANDOM_TRIES = 20_000
"""Random points tried in a space that cannot be enumerated before it counts as exhausted."""


class Decision(enum.Enum):
    """What becomes of a trial after an epoch."""

    CONTINUE = enum.auto()
    """It trains its next epoch, or is complete if that was the last one."""
    PAUSE = enum.auto()
    """It leaves its worker. Its checkpoint must stay: `ask` may hand it out again."""
    STOP = enum.auto()
    """It leaves its worker: it has ended, and its checkpoint is not needed any more, or the search is being stopped."""


class Strategy:
    """Hands out candidates and learns from their results.

    Args:
        space: the candidates that can be handed out.
        sampler: proposes; any Optuna sampler for two objectives.
        n_trials: number of trials that the whole search may have.
        seed: of the replacements and, plus the trial's number, of each training.
        records: trials of an earlier part of this search. Those still RUNNING are handed out again first.
        pausing_rule: pauses trials; None: every trial runs to its end.
        until: when the search has found enough, and no new candidate is handed out; None: when all trials have ended.

    Attributes:
        records: all trials, by number.
        exhausted: whether the space was found to have no new candidate.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: BaseSampler,
        n_trials: int,
        seed: int = 0,
        records: Iterable[TrialRecord] = (),
        pausing_rule: PausingRule | None = None,
        until: Until | None = None,
    ) -> None:
        self.space = space
        self.n_trials = n_trials
        self.seed = seed
        self.records: list[TrialRecord] = []
        self.exhausted = False
        self._sampler = sampler
        self._pausing_rule = pausing_rule
        self.until = until
        self._rng = np.random.default_rng(seed)
        self._distributions: dict[str, BaseDistribution] = {p.name: p.distribution for p in space.parameters}
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
        self._study_numbers: dict[int, int] = {}
        """Trial number here -> number in the sampler's study, which also has the replaced proposals."""
        self._predictions: dict[int, GaussianPrediction] = {}
        self._seen: set[str] = set()
        self._unseen: list[Candidate] | None = None
        self._interrupted: list[TrialRecord] = []
        for record in records:
            self._adopt(record)
        self._gains = gains_so_far(self.records)
        self._due = 0

    @property
    def finished(self) -> bool:
        """Whether nothing will be handed out any more; `ask` may also have nothing while trials are running."""
        if self._interrupted or not self._last:
            return False
        running = any(record.state is TrialState.RUNNING for record in self.records)
        return self._pausing_rule is None or (not running and self._resumption() is None)

    def ask(self) -> TrialRecord | None:
        """The next trial to run: a new one, or an interrupted or paused one, which goes on after its curve so far.

        Returns:
            Its record; None if there are enough trials, or nothing new is left in the space. If trials are running
            then, ask again when one of them has ended or paused (see `finished`).
        """
        if self._interrupted:
            return self._interrupted.pop(0)
        record = self._resumed()
        if record is None and not self._last:
            # If the space turns out to have no new candidate, the last paused trials are resumed.
            record = self._new_trial() or self._resumed()
        return record

    def ask_for(self, params: Mapping[str, Any]) -> TrialRecord | None:
        """A new trial with parameters that the user wants.

        Args:
            params: some or all of the space's parameters; the sampler chooses the others.

        Returns:
            Its record; None: an interrupted trial goes first, or no new trial may start.

        Raises:
            ConfigError: the parameters are not of the space, the candidate is invalid, or it is not new.
        """
        if self._interrupted or self._last:
            return None
        wanted = self.space.labels(params)
        if len(wanted) == len(self.space.parameters):
            candidate = self.space.candidate(wanted)
            if candidate.id in self._seen:
                number = next(record.number for record in self.records if record.candidate.id == candidate.id)
                raise ConfigError("", f"is the network of trial {number} already")
        record = self._new_trial(wanted)
        if record is None:
            raise ConfigError("", "leave no valid network that is new")
        return record

    @property
    def _last(self) -> bool:
        """Whether no new candidate will come, as far as is known now: a running trial may end with a surprise."""
        return self.exhausted or len(self.records) >= self.n_trials or self.enough

    @property
    def enough(self) -> bool:
        """Whether further trials are expected to bring less than the user wants."""
        return self.until is not None and is_enough(self._gains, self.until)

    def expected_gain(self, trials: int) -> ExpectedGain | None:
        """What further trials are expected to bring, beyond those that are running; takes about 0.2 s.

        Returns:
            the answer; None if the sampler has no model, or cannot tell yet.
        """
        if not isinstance(self._sampler, ModelBasedSampler):
            return None
        self._hand_over_predictions()
        share = self._sampler.expected_gain(self._study, trials)
        return None if share is None else ExpectedGain(trials, share)

    def _ask_for_gain(self, record: TrialRecord) -> None:
        """Note what further trials are expected to bring now; in long searches not after each trial."""
        if self.until is None or len(self.records) < self._due:
            return
        record.gain = self.expected_gain(self.until.trials)
        if record.gain is not None:
            self._gains.append(record.gain)
            self._due = len(self.records) + int(_GAIN_SHARE * len(self.records))

    def _resumption(self) -> tuple[TrialRecord, str] | None:
        """The paused trial that should be resumed, and why."""
        if self._pausing_rule is None:
            return None
        spare = self.exhausted and len(self.records) < self.n_trials
        return self._pausing_rule.resume(self.records, self._last, spare)

    def _resumed(self) -> TrialRecord | None:
        """Resume a paused trial, if one should be."""
        resumption = self._resumption()
        if resumption is None:
            return None
        record, reason = resumption
        record.state = TrialState.RUNNING
        record.decisions.append(f"epoch {len(record.curve)}: resumed, {reason}")
        return record

    def _new_trial(self, wanted: Mapping[str, Any] | None = None) -> TrialRecord | None:
        """A trial of the sampler's proposal, or of the nearest new candidate; None, and `exhausted`, if there is none.

        The record holds what the sampler expected of its proposal, even if a neighbour takes that one's place.

        Args:
            wanted: labels that the candidate must have; the space is not exhausted if no new candidate has them.
        """
        self._hand_over_predictions()
        proposal = self._study.ask(self._distributions)
        notes = dict(self._study.get_trials(deepcopy=False)[proposal.number].system_attrs)
        candidate = self._nearest_new(proposal.params, wanted or {})
        if candidate is None:
            self._study.tell(proposal, state=OptunaState.FAIL)
            self.exhausted = not wanted
            return None
        study_number = proposal.number
        if candidate.params != proposal.params:
            self._study.tell(proposal, state=OptunaState.FAIL)
            # NOTE: The sampler's own notes go along; without its generation NSGA-II would never breed from the trial.
            study_number = self._add(candidate, OptunaState.RUNNING, None, notes)
        number = len(self.records)
        record = TrialRecord(number, candidate, seed=self.seed + number, sampler_notes=notes)
        if isinstance(self._sampler, ModelBasedSampler) and not wanted:
            record.expected = self._sampler.expectation(self._study, proposal.number)
        self.records.append(record)
        self._seen.add(candidate.id)
        self._study_numbers[number] = study_number
        return record

    def _hand_over_predictions(self) -> None:
        """Tell a sampler that can use it what the curves of unfinished trials predict.

        A curve that says nothing any more leaves the prediction that was made of it before.
        """
        if self._pausing_rule is None or not isinstance(self._sampler, ModelBasedSampler):
            return
        unfinished: dict[int, GaussianPrediction] = {}
        for record in self.records:
            if record.state not in (TrialState.RUNNING, TrialState.PAUSED):
                continue
            number, likelihood = self._study_numbers[record.number], self._pausing_rule.curve_likelihood(record)
            if likelihood is not None:
                unfinished[number] = GaussianPrediction(likelihood.mean, likelihood.std)
            elif number in self._predictions:
                unfinished[number] = self._predictions[number]
        self._predictions = unfinished
        self._sampler.set_predictions(self._study, unfinished)

    def report(self, number: int, curve: Sequence[float], seconds: float = 0.0) -> Decision:
        """Take note of a trial's progress, and decide what becomes of it.

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
        if self._pausing_rule is None or len(curve) >= record.candidate.training.epochs:
            return Decision.CONTINUE
        reason = self._pausing_rule.pause(record, self.records)
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
            self.fail(number, f"ended after {len(record.curve)} of {record.candidate.training.epochs} epochs")
            return
        record.state = TrialState.COMPLETE
        if (trial := record.completed) is not None:
            if self._pausing_rule:
                self._pausing_rule.complete(trial)
            self._study.tell(self._study_numbers[number], _objectives(trial))
            self._ask_for_gain(record)

    def fail(self, number: int, reason: str) -> None:
        """The trial has ended without a result; it is not tried again."""
        record = self.records[number]
        if record.state is TrialState.RUNNING:
            record.state, record.reason = TrialState.FAILED, reason
            self._study.tell(self._study_numbers[number], state=OptunaState.FAIL)

    def interrupt(self, number: int) -> None:
        """The trial has lost its worker before it could go on; it is handed out again first."""
        self._interrupted.append(self.records[number])

    def _adopt(self, record: TrialRecord) -> None:
        """Take over a record of an earlier part of the search."""
        # NOTE: For the sampler a paused trial is a running one: Optuna would hand out a waiting one by itself.
        state = OptunaState.RUNNING if record.state is TrialState.PAUSED else OPTUNA_STATE[record.state]
        trial = record.completed
        objectives = None if trial is None else _objectives(trial)
        self._study_numbers[record.number] = self._add(record.candidate, state, objectives, record.sampler_notes)
        self._seen.add(record.candidate.id)
        self.records.append(record)
        if record.state is TrialState.RUNNING:
            self._interrupted.append(record)
        if trial is not None and self._pausing_rule:
            self._pausing_rule.complete(trial)

    def _add(
        self, candidate: Candidate, state: OptunaState, values: Sequence[float] | None, system_attrs: dict[str, Any]
    ) -> int:
        """Add a trial to the sampler's study.

        Returns:
            Its number there.
        """
        trial = create_trial(
            state=state,
            values=values,
            params=candidate.params,
            distributions=self._distributions,
            system_attrs=system_attrs,
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def _new(self, params: Mapping[str, Any], wanted: Mapping[str, Any]) -> Candidate | None:
        """The candidate of these parameters; None if it is invalid or not new."""
        try:
            candidate = self.space.candidate({**params, **wanted})
        except ConfigError:
            return None
        return None if candidate.id in self._seen else candidate

    def _nearest_new(self, params: Mapping[str, Any], wanted: Mapping[str, Any]) -> Candidate | None:
        """The proposal itself if it is valid and new; else the first such candidate at growing distances from it.

        Args:
            params: the proposal.
            wanted: labels that the candidate must have.
        """
        candidate = self._new(params, wanted)
        if candidate is not None:
            return candidate
        n_parameters = len(self.space.parameters)
        for distance in range(1, 2 * n_parameters + 1):
            for _ in range(_MUTATIONS_PER_DISTANCE):
                moved = params
                for _ in range(1 + distance // n_parameters):
                    moved = self.space.mutate(moved, min(distance, n_parameters), self._rng)
                candidate = self._new(moved, wanted)
                if candidate is not None:
                    return candidate
        return self._any_new(wanted)

    def _any_new(self, wanted: Mapping[str, Any]) -> Candidate | None:
        """A new candidate with these labels, from anywhere; None if there is none, or a huge space showed none."""
        if self.space.enumerable:
            if self._unseen is None:
                self._unseen = list(self.space.enumerate())
                self._rng.shuffle(self._unseen)
            self._unseen = [candidate for candidate in self._unseen if candidate.id not in self._seen]
            found = (self._new(candidate.params, wanted) for candidate in reversed(self._unseen))
            return next(filter(None, found), None)
        for _ in range(_RANDOM_TRIES):
            candidate = self._new(self.space.random_values(self._rng), wanted)
            if candidate is not None:
                return candidate
        return None


def _objectives(trial: CompletedTrial) -> tuple[float, float]:
    """The values of its objectives, in the order of DIRECTIONS."""
    return trial.accuracy, float(trial.weights)
