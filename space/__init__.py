"""What can be searched: parameters, constraints, candidates, and the published networks."""

from typing import TYPE_CHECKING

from .candidate import Candidate, TrainingSettings
from .limits import Limits, parse_bytes, parse_count
from .published import PUBLISHED, PublishedModel, preset

if TYPE_CHECKING:
    from .search_space import SearchSpace

__all__ = [
    "PUBLISHED",
    "Candidate",
    "Limits",
    "PublishedModel",
    "SearchSpace",
    "TrainingSettings",
    "parse_bytes",
    "parse_count",
    "preset",
]


def __getattr__(name: str) -> object:
    # NOTE: A search space needs Optuna. Loading a trained network should not, so Optuna is imported for SearchSpace
    # only.
    if name == "SearchSpace":
        from .search_space import SearchSpace

        return SearchSpace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
