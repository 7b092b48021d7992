"""The front as rows, and rows as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from ..search.trial_record import TrialRecord

COLUMNS = ("weights", "accuracy", "macs", "trial", "network", "id")


def front_rows(front: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """One row per network of the front, by ascending weights; accuracy as a fraction, MACs per image."""
    return [
        {
            "weights": record.weights,
            "accuracy": round(record.accuracy, 6),
            "macs": record.candidate.macs,
            "trial": record.number,
            "network": record.candidate.architecture.describe(),
            "id": record.candidate.id,
        }
        for record in front
    ]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Comma-separated, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(front: Sequence[TrialRecord]) -> str:
    """The rows with each network's full config and learning curve."""
    rows = front_rows(front)
    for row, record in zip(rows, front, strict=True):
        row |= record.candidate.to_dict() | {"curve": record.curve, "seconds": round(record.seconds, 3)}
    return json.dumps(rows, indent=2) + "\n"


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table for README files and issues."""
    lines = ["| weights | validation accuracy | MACs | trial | network |", "|---:|---:|---:|---:|---|"]
    for row in rows:
        numbers = f"{row['weights']:,} | {100 * row['accuracy']:.2f} % | {row['macs']:,} | {row['trial']}"
        lines.append(f"| {numbers} | {row['network']} |")
    return "\n".join(lines) + "\n"
