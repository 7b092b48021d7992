"""Progress as plain lines, for logs, scripts and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.text import clock
from mgnas.search.trial_record import TrialRecord, TrialState

from .errors import printable

if TYPE_CHECKING:
    from mgnas.reports.deploy.retraining import Outcome, Unfinished
    from mgnas.search.tuner.progress import SearchProgress


class PlainDisplay:
    """Prints one line for each trial that ends.

    Args:
        progress: of the search.
    """

    def __init__(self, progress: SearchProgress) -> None:
        self._progress = progress

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, record: TrialRecord) -> None:
        progress, trial = self._progress, record.completed
        done = progress.count(TrialState.COMPLETE) + progress.count(TrialState.FAILED)
        if trial is not None:
            mark = "*" if trial in pareto_front(progress.records) else " "
            outcome = f"{100 * trial.accuracy:6.2f} %{mark} {trial.weights:>9,} weights"
        elif record.state is TrialState.PAUSED:
            outcome = f"paused at {printable(record.decisions[-1]).removeprefix('epoch ').replace(': paused', '', 1)};"
        else:
            outcome = f"failed: {printable(record.reason)}"
        seconds_left = progress.seconds_left
        remaining = f", about {clock(seconds_left)} left" if seconds_left else ""
        network = record.candidate.architecture.describe()
        gain = "" if record.gain is None else f"; {record.gain.in_words()}"
        print(f"[{done}/{progress.n_trials}{remaining}] trial {record.number}: {outcome}  {network}{gain}", flush=True)


class RetrainingLines:
    """Prints one line for each full training that ends, and some lines of how far long ones are.

    Args:
        n_networks: how many networks are trained.
        n_seeds: how many times each.

    Attributes:
        outcomes: of the trainings that have ended.
    """

    def __init__(self, n_networks: int, n_seeds: int) -> None:
        self.total = n_networks * n_seeds
        self.outcomes: list[Outcome] = []
        self._shown: dict[tuple[int, int], tuple[float, int]] = {}
        networks, seeds = ("s" if count > 1 else "" for count in (n_networks, n_seeds))
        print(f"{n_networks} network{networks}, {n_seeds} seed{seeds} each", flush=True)

    def show(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        result = (
            f"failed: {printable(outcome.reason)}" if outcome.accuracy is None else f"{100 * outcome.accuracy:.2f} %"
        )
        note = " (finished before)" if outcome.finished_before else ""
        network = outcome.record.candidate.architecture.describe()
        place = f"[{len(self.outcomes)}/{self.total}] trial {outcome.record.number}, seed {outcome.seed}"
        print(f"{place}: {result}{note}  {network}", flush=True)

    def show_progress(self, training: Unfinished) -> None:
        """Print how far a training is, at most once a minute of training and at most once a tenth of its epochs."""
        progress, key = training.progress, (training.trial, training.seed)
        seconds, tenth = self._shown.get(key, (0.0, -1))
        if progress.seconds - seconds >= 60 and 10 * progress.epoch // progress.epochs > tenth:
            self._shown[key] = progress.seconds, 10 * progress.epoch // progress.epochs
            print(training.in_words(), flush=True)
