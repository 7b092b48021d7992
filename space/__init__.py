"""What can be searched: parameters, constraints, candidates, and the published networks."""

from .candidate import Candidate, TrainingSettings
from .limits import Limits, parse_count
from .published import PUBLISHED, PublishedModel, preset
from .search_space import SearchSpace

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
