"""A run as the report shows it: its trials and everything else that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgnas.errors import UserError

from ...search.config import SearchConfig
from ...search.storage.run_directory import RunDirectory
from ...search.trial_record import TrialRecord
from ...space.search_space import SearchSpace
from ..deploy.latency import LatencyMeter
from ..deploy.retraining import Retrained, load_retrained
from .expected_accuracy import Expected, expected_accuracies
from .pareto import complete, pareto_front

LATENCY_SECONDS = 8.0
"""Time that a report may take to measure latencies that are not known yet; the next one measures the rest."""


@dataclass(frozen=True)
class RunData:
    """One run.

    Args:
        name: as the report calls it.
        path: of its directory.
        config: its search.
        space: its search space.
        records: its trials.
        elapsed: seconds of searching.
        retrained: trial number -> what full trainings gave.
        expected: trial number -> what another training is expected to give; empty if too few trials are complete.
        latencies: trial number -> batch -> milliseconds, of networks of the front.
        machine: that latencies were measured on.
    """

    name: str
    path: Path
    config: SearchConfig
    space: SearchSpace
    records: list[TrialRecord]
    elapsed: float
    retrained: dict[int, Retrained]
    expected: dict[int, Expected]
    latencies: dict[int, dict[int, float]]
    machine: str

    @property
    def finished(self) -> list[TrialRecord]:
        return complete(self.records)

    @property
    def front(self) -> list[TrialRecord]:
        return pareto_front(self.records)

    @property
    def dataset(self) -> str:
        return self.config.data.name


def load_run_data(run: RunDirectory, latency_seconds: float = LATENCY_SECONDS) -> RunData:
    """Everything that is known of a run; latencies of its front are measured if they are not known.

    Args:
        run: finished or not.
        latency_seconds: how long to measure at most.

    Raises:
        UserError: a damaged file.
    """
    records = run.load()
    meter = LatencyMeter(run.path / "latency.json")
    try:
        expected = expected_accuracies(records)
    except UserError:  # Too few trials: the report says so in its place.
        expected = {}
    return RunData(
        run.path.resolve().name,
        run.path,
        run.config,
        run.space,
        records,
        run.elapsed,
        {retrained.trial: retrained for retrained in load_retrained(run)},
        expected,
        meter.measured(pareto_front(records), latency_seconds),
        meter.machine,
    )


def distinct_names(runs: Sequence[RunData]) -> list[str]:
    """The runs' names; with their parent folders where two are called the same."""
    names = [run.name for run in runs]
    return ["/".join(run.path.resolve().parts[-2:]) if names.count(run.name) > 1 else run.name for run in runs]
