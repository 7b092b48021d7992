"""The run directory: everything about one search, in files that a person can read.

config.yaml    the search, complete with defaults
study.db       the Optuna study: every trial with its curve
clock.json     seconds of searching so far, over all interruptions
trials/        a checkpoint of each trial that is running
report/        what `mgnas report` makes of it
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from ..models.errors import UserError
from ..models.settings import write_text, write_yaml
from ..space.search_space import SearchSpace
from .search_config import SearchConfig
from .study import StudyFile
from .trial_record import TrialRecord

_CONFIG, _STUDY, _CLOCK = "config.yaml", "study.db", "clock.json"


class RunDirectory:
    """An existing run.

    Args:
        path: the directory.

    Raises:
        UserError: there is none, or it is incomplete.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            hint = _existing_runs(self.path.parent)
            raise UserError(f"{path}: no such run directory{hint}")
        for name in (_CONFIG, _STUDY):
            if not (self.path / name).is_file():
                raise UserError(f"{path}: {name} is missing, so this is no complete run directory; start a new search")
        self.config = SearchConfig.load(self.path / _CONFIG)
        self.space: SearchSpace = self.config.search_space()
        self.study = StudyFile(self.path / _STUDY, self.space)

    @classmethod
    def create(cls, config: SearchConfig, parent: str | os.PathLike, name: str | None = None) -> RunDirectory:
        """Make a new run `parent/name`, whole or not at all.

        Args:
            config: what to search.
            parent: folder of the run directories; made if missing.
            name: default: the config's name and the first free number.

        Raises:
            UserError: the name is taken, or the folder cannot be written.
        """
        parent = Path(parent)
        if name is not None and (Path(name).name != name or name.startswith(".")):
            raise UserError(f"--name: expected a plain folder name, got {name!r}; use --runs for the parent folder")
        config.search_space()  # Before anything is written: an impossible space leaves no run behind.
        try:
            parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(dir=parent, prefix=".new-"))
        except OSError as error:
            raise UserError(
                f"{parent}: cannot be written ({error.strerror}); choose another folder with --runs"
            ) from None
        try:
            building.chmod(0o755)
            write_yaml(building / _CONFIG, config.to_dict())
            StudyFile.create(building / _STUDY)
            (building / "trials").mkdir()
            path = parent / name if name else _free_name(parent, config.name)
            if path.exists():
                raise UserError(
                    f"{path}: exists already; continue it with `mgnas resume {path}`, or choose another --name"
                )
            building.rename(path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return cls(path)

    def load(self) -> list[TrialRecord]:
        """All trials so far, in the order of their numbers."""
        return self.study.load()

    def checkpoint(self, number: int) -> Path:
        """Where a running trial keeps its checkpoint."""
        return (self.path / "trials" / f"{number:05d}.pt").absolute()

    def update_config(self, config: SearchConfig) -> None:
        """Store a changed config (more trials, other workers)."""
        write_yaml(self.path / _CONFIG, config.to_dict())
        self.config = config

    @property
    def elapsed(self) -> float:
        """Seconds of searching so far, as last saved."""
        try:
            return float(json.loads((self.path / _CLOCK).read_text())["elapsed"])
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{self.path / _CLOCK}: is damaged; delete it (only the run's clock is lost)") from None

    @elapsed.setter
    def elapsed(self, seconds: float) -> None:
        write_text(self.path / _CLOCK, json.dumps({"elapsed": round(seconds, 3)}) + "\n")


def _free_name(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def _existing_runs(parent: Path) -> str:
    runs = sorted(path.parent.name for path in parent.glob(f"[!.]*/{_CONFIG}")) if parent.is_dir() else []
    return f"; in {parent} there are {', '.join(runs[:8])}" if runs else ""
