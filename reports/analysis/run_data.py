"""A run as the report shows it: its trials and everything else that is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgnas.errors import UserError, printable

from ...search.config import SearchConfig
from ...search.storage.run_directory import RunDirectory
from ...search.trial_record import CompletedTrial, TrialRecord, completed_trials
from ...space.search_space import SearchSpace
from ..deploy.latency.device import DeviceLatencies, load_device_latencies
from ..deploy.latency.meter import LatencyMeter
from ..deploy.retraining import Retrained, load_retrained
from .front_confidence import Expected, FrontConfidence, front_confidence
from .pareto import pareto_front

LATENCY_SECONDS = 8.0
"""Time that a report spends on measuring new latencies; the next report measures the rest."""


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
        confidence: how sure the front is; None if too few trials are complete.
        latencies: trial number -> batch -> milliseconds, for networks of the front.
        machine: on which latencies were measured.
        largest_class: name of the class with the most validation images, and its share of them; None: not known.
        devices: other devices on which networks were measured.
    """

    name: str
    path: Path
    config: SearchConfig
    space: SearchSpace
    records: list[TrialRecord]
    elapsed: float
    retrained: dict[int, Retrained]
    confidence: FrontConfidence | None
    latencies: dict[int, dict[int, float]]
    machine: str
    largest_class: tuple[str, float] | None = None
    devices: Sequence[DeviceLatencies] = ()

    @property
    def expected(self) -> Mapping[int, Expected]:
        """Trial number -> what another training is expected to give; empty if too few trials are complete."""
        return {} if self.confidence is None else self.confidence.expected

    @property
    def finished(self) -> list[CompletedTrial]:
        """Its complete trials."""
        return completed_trials(self.records)

    @property
    def front(self) -> list[CompletedTrial]:
        """By ascending weights."""
        return pareto_front(self.records)

    @property
    def dataset(self) -> str:
        return self.config.data.name


def load_run_data(run: RunDirectory, latency_seconds: float = LATENCY_SECONDS) -> RunData:
    """Everything that is known of a run; new latencies of its front are measured.

    Args:
        run: finished or not.
        latency_seconds: how long to measure at most.

    Raises:
        UserError: a damaged file.
    """
    records = run.load()
    meter = LatencyMeter(run.path / "latency.json")
    try:
        confidence = front_confidence(completed_trials(records), run.validation_images)
    except UserError:  # Too few trials: the page says in its place how lucky the best results may be.
        confidence = None
    return RunData(
        run.path.resolve().name,
        run.path,
        run.config,
        run.space,
        records,
        run.elapsed,
        {retrained.trial: retrained for retrained in load_retrained(run)},
        confidence,
        meter.measured(pareto_front(records), latency_seconds),
        meter.machine,
        run.largest_class,
        load_device_latencies(run.path, [record.candidate for record in records]),
    )


def distinct_names(runs: Sequence[RunData]) -> list[str]:
    """The runs' names; runs of the same name get that of the parent folder in front."""
    names = [run.name for run in runs]
    return [
        printable("/".join(run.path.resolve().parts[-2:]) if names.count(run.name) > 1 else run.name) for run in runs
    ]
