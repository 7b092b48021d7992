"""Budgets of weights and MACs."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

from mgnas.errors import ConfigError
from mgnas.settings import settings

from .candidate import Candidate


def parse_count(value: Any) -> int:
    """The number that a user's value means: a whole number, or one with a suffix (20000, "20k", "1.5M").

    Raises:
        ConfigError: the value is something else, below 1 or above 10^18.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?)\s*", str(value)) if not isinstance(value, bool) else None
    number = Decimal(match[1]).scaleb({"": 0, "k": 3, "m": 6, "g": 9}[match[2].lower()]) if match else Decimal(0)
    if number < 1 or number != int(number) or number > 10**18:
        raise ConfigError("", f"expected a whole number such as 20000, 20k or 1.5M, got {value!r}")
    return int(number)


_Count = Annotated[int | None, BeforeValidator(lambda value: None if value is None else parse_count(value))]


class LimitError(ConfigError):
    """A valid network that breaks a budget.

    Args:
        limit: the name of the limit.
        amount: the network's weights or MACs.
        problem: the rest of the message, after the amount.
    """

    def __init__(self, limit: str, amount: int, problem: str) -> None:
        self.limit, self.amount = limit, amount
        super().__init__(f"limits.{limit}", f"{amount:,} {problem}")


@settings
class Limits:
    """Budgets that every candidate keeps. They are checked before anything is trained."""

    max_weights: _Count = None
    """Maximum number of trainable parameters: 30000, 30k, 1.5M."""
    min_weights: _Count = None
    """Minimum number of trainable parameters."""
    max_macs: _Count = None
    """Maximum number of multiply-accumulates per image: 20M, 1G."""

    def check(self, candidate: Candidate) -> None:
        """Refuse a candidate that breaks a limit.

        Raises:
            LimitError: the candidate breaks a limit, which the message names.
        """
        if self.max_weights is not None and candidate.weights > self.max_weights:
            raise LimitError("max_weights", candidate.weights, f"weights are more than {self.max_weights:,}")
        if self.min_weights is not None and candidate.weights < self.min_weights:
            raise LimitError("min_weights", candidate.weights, f"weights are fewer than {self.min_weights:,}")
        if self.max_macs is not None and candidate.macs > self.max_macs:
            raise LimitError("max_macs", candidate.macs, f"MACs are more than {self.max_macs:,}")
