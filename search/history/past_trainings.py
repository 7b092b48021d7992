"""Finished trainings of an earlier search or a table; the prior and the curve model of a new search learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mgnas.errors import UserError

from ...models.config import ArchitectureConfig
from ..samplers.features import LEAST_TRAININGS
from ..trial_record import completed_trials
from .table import SHIPPED, TabularBenchmark

if TYPE_CHECKING:
    from ..samplers.transfer_prior import TransferPrior


@dataclass(frozen=True)
class TaskEvaluations:
    """Trainings on one data set, n of them.

    Args:
        source: where they come from, for messages.
        configs: the architectures, n; one that was trained several times stands there several times.
        curves: validation accuracy after each epoch of each training, n, as fractions.
    """

    source: str
    configs: Sequence[ArchitectureConfig]
    curves: Sequence[Sequence[float]]

    @classmethod
    def from_table(cls, table: TabularBenchmark, source: str) -> TaskEvaluations:
        """All trainings of a table, with those that were added to it."""
        rows = table.extended().rows
        return cls(source, [row.config for row in rows], [row.curve for row in rows])

    @classmethod
    def load(cls, source: str) -> TaskEvaluations:
        """Read trainings.

        Args:
            source: the name of a shipped table, a table's file, or a run directory.

        Raises:
            UserError: the source is none of these, is damaged, or has fewer than LEAST_TRAININGS finished trainings.
        """
        shipped = shipped_tables()
        path = shipped.get(source, Path(source))
        if path.is_file():
            return cls.from_table(TabularBenchmark.load(path), source)._checked()
        if not path.is_dir():
            known = ", ".join(sorted(shipped))
            raise UserError(f"prior {source}: no such run directory, table file or shipped table (those are {known})")
        from ..storage.run_directory import RunDirectory

        run = RunDirectory(path)
        trials = completed_trials(run.load())
        run.close()
        return cls(source, [trial.architecture for trial in trials], [trial.curve for trial in trials])._checked()

    def _checked(self) -> TaskEvaluations:
        if len(self.configs) < LEAST_TRAININGS:
            needed = f"a prior needs at least {LEAST_TRAININGS} finished trainings"
            raise UserError(f"prior {self.source}: {needed}; this one has {len(self.configs)}")
        return self

    def prior(self) -> TransferPrior:
        """The model that these trainings give a new search; fitting it takes seconds.

        Raises:
            UserError: nothing can be learned from them.
        """
        from ..samplers.transfer_prior import TransferPrior

        try:
            return TransferPrior.from_accuracies(self.configs, [curve[-1] for curve in self.curves])
        except UserError as error:
            raise UserError(f"prior {self.source}: {error}") from None


def shipped_tables() -> dict[str, Path]:
    """Name -> file of every table that is installed with mgnas."""
    return {path.name.removesuffix(".json.gz"): path for path in sorted(SHIPPED.glob("*.json.gz"))}
