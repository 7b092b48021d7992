"""The front as rows, and rows as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...search.trial_record import TrialRecord
from ..deploy.retraining import Retrained

COLUMNS = ("weights", "accuracy", "macs", "trial", "network", "id", "seeds", "retrained_accuracy", "retrained_sd")


def front_rows(front: Sequence[TrialRecord], retrained: Mapping[int, Retrained] = {}) -> list[dict[str, Any]]:
    """One row per network of the front, by ascending weights; accuracies as fractions, MACs per image.

    Args:
        front: its trials.
        retrained: trial number -> full trainings; their columns are empty where there are none.
    """
    return [_row(record, retrained.get(record.number)) for record in front]


def _row(record: TrialRecord, retrained: Retrained | None) -> dict[str, Any]:
    spread = retrained and retrained.spread
    return {
        "weights": record.weights,
        "accuracy": round(record.accuracy, 6),
        "macs": record.candidate.macs,
        "trial": record.number,
        "network": record.candidate.architecture.describe(),
        "id": record.candidate.id,
        "seeds": retrained and len(retrained.accuracies),
        "retrained_accuracy": retrained and round(retrained.mean, 6),
        "retrained_sd": None if spread is None else round(spread, 6),
    }


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Comma-separated, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(front: Sequence[TrialRecord], retrained: Mapping[int, Retrained] = {}) -> str:
    """The rows with each network's full config and learning curve."""
    rows = front_rows(front, retrained)
    for row, record in zip(rows, front, strict=True):
        row |= record.candidate.to_dict() | {"curve": record.curve, "seconds": round(record.seconds, 3)}
    return json.dumps(rows, indent=2) + "\n"


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table for README files and issues."""
    lines = [
        "| weights | validation accuracy | trained fully | MACs | trial | network |",
        "|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        full = "" if row["seeds"] is None else f"{100 * row['retrained_accuracy']:.2f} %"
        if row["retrained_sd"] is not None:
            full += f" +- {100 * row['retrained_sd']:.2f} ({row['seeds']} seeds)"
        numbers = f"{row['weights']:,} | {100 * row['accuracy']:.2f} % | {full} | {row['macs']:,} | {row['trial']}"
        lines.append(f"| {numbers} | {row['network']} |")
    return "\n".join(lines) + "\n"
