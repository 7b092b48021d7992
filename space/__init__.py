"""What can be searched: parameters, constraints, candidates, and the published networks."""

from .candidate import Candidate, TrainingSettings
from .published import PUBLISHED, PublishedModel, preset
from .search_space import Limits, SearchSpace, parse_count

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
