"""mgnas: multigrid CNN architectures with the best accuracy at the fewest weights.

    run = mgnas.run_search("configs/digits.yaml", trials=12)
    choice = run.select(max_weights="20k")
    (retrained,) = run.retrain(choice)
    model = mgnas.load(retrained.folder / "seed-0")

Everything here is imported when it is first used, so that `import mgnas` costs next to nothing.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgnas.models.config import ArchitectureConfig
    from mgnas.reports.analysis.select import Choice
    from mgnas.reports.deploy.classifier import Classifier
    from mgnas.reports.deploy.retraining import Retrained
    from mgnas.search.config import SearchConfig
    from mgnas.search.samplers.ehvi import EHVISampler
    from mgnas.search.samplers.outcome_transforms import LogErrorTransform
    from mgnas.search.trial_record import CompletedTrial, TrialRecord, TrialState

    from .api import open_run, run_search
    from .errors import ConfigError, SearchStoppedError, UserError
    from .networks import build_model, count_macs, count_weights, export, load
    from .run import Run

    __version__: str

__all__ = [
    "ArchitectureConfig",
    "Choice",
    "Classifier",
    "CompletedTrial",
    "ConfigError",
    "EHVISampler",
    "LogErrorTransform",
    "Retrained",
    "Run",
    "SearchConfig",
    "SearchStoppedError",
    "TrialRecord",
    "TrialState",
    "UserError",
    "build_model",
    "count_macs",
    "count_weights",
    "export",
    "load",
    "open_run",
    "run_search",
]

_MODULES = {
    "ArchitectureConfig": "models.config",
    "Choice": "reports.analysis.select",
    "Classifier": "reports.deploy.classifier",
    "CompletedTrial": "search.trial_record",
    "ConfigError": "errors",
    "EHVISampler": "search.samplers.ehvi",
    "LogErrorTransform": "search.samplers.outcome_transforms",
    "Retrained": "reports.deploy.retraining",
    "Run": "run",
    "SearchConfig": "search.config",
    "SearchStoppedError": "errors",
    "TrialRecord": "search.trial_record",
    "TrialState": "search.trial_record",
    "UserError": "errors",
    "build_model": "networks",
    "count_macs": "networks",
    "count_weights": "networks",
    "export": "networks",
    "load": "networks",
    "open_run": "api",
    "run_search": "api",
}
"""Public name -> the module that defines it."""

# In a checkout the subpackages lie beside this folder. Ray's workers, and Python itself, look into the working
# directory first: there they find this folder without its subpackages, also if mgnas is installed elsewhere.
_folder = Path(__file__).absolute().parent
if not (_folder / "models").is_dir():
    __path__.append(str(_folder.parent))

# Without a handler Python would print warnings of a library to the terminal.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("mgnas")
    elif name in _MODULES:
        value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
