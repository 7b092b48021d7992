"""What can be searched: parameters, constraints, candidates, and the published networks."""

from .candidate import Candidate, TrainingSettings
from .limits import Limits, parse_count
from .published import PUBLISHED, PublishedModel, preset

__all__ = [
    "PUBLISHED",
    "Candidate",
    "Limits",
    "PublishedModel",
    "SearchSpace",
    "TrainingSettings",
    "parse_count",
    "preset",
]


def __getattr__(name: str):
    # NOTE: The space knows Optuna's distributions; whoever only loads a trained network does without Optuna.
    if name == "SearchSpace":
        from .search_space import SearchSpace

        return SearchSpace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
