"""The front as rows, and rows as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...search.trial_record import CompletedTrial
from ..deploy.retraining import Retrained

COLUMNS = (
    "weights",
    "accuracy",
    "balanced_accuracy",
    "macs",
    "trial",
    "network",
    "id",
    "seeds",
    "retrained_accuracy",
    "retrained_sd",
    "activation_memory",
    "activation_memory_int8",
    "flash_memory",
    "flash_memory_int8",
)


def front_rows(front: Sequence[CompletedTrial], retrained: Mapping[int, Retrained] = {}) -> list[dict[str, Any]]:
    """One row per network of the front, by ascending weights; accuracies as fractions, MACs per image, memory in bytes.

    Args:
        front: its trials.
        retrained: trial number -> full trainings; the columns of a trial without any are empty.
    """
    return [_row(trial, retrained.get(trial.number)) for trial in front]


def _row(trial: CompletedTrial, retrained: Retrained | None) -> dict[str, Any]:
    std = retrained.std if retrained else None
    return {
        "weights": trial.weights,
        "accuracy": round(trial.accuracy, 6),
        "balanced_accuracy": None if trial.balanced_accuracy is None else round(trial.balanced_accuracy, 6),
        "macs": trial.macs,
        "trial": trial.number,
        "network": trial.architecture.describe(),
        "id": trial.candidate.id,
        "seeds": len(retrained.accuracies) if retrained else None,
        "retrained_accuracy": round(retrained.mean, 6) if retrained else None,
        "retrained_sd": None if std is None else round(std, 6),
        "activation_memory": trial.candidate.activation_memory(),
        "activation_memory_int8": trial.candidate.activation_memory(int8=True),
        "flash_memory": trial.candidate.flash_memory(),
        "flash_memory_int8": trial.candidate.flash_memory(int8=True),
    }


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Comma-separated, with a header."""
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(front: Sequence[CompletedTrial], retrained: Mapping[int, Retrained] = {}) -> str:
    """The rows with each network's full config and learning curve."""
    rows = front_rows(front, retrained)
    for row, trial in zip(rows, front, strict=True):
        row |= trial.candidate.to_dict() | {"curve": trial.curve, "seconds": round(trial.seconds, 3)}
    return json.dumps(rows, indent=2) + "\n"


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table for README files and issues."""
    lines = [
        "| weights | validation accuracy | balanced | trained fully | MACs | memory (int8) | trial | network |",
        "|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        full = "" if row["seeds"] is None else f"{100 * row['retrained_accuracy']:.2f} %"
        if row["retrained_sd"] is not None:
            full += f" +- {100 * row['retrained_sd']:.2f} ({row['seeds']} seeds)"
        balanced = "" if row["balanced_accuracy"] is None else f"{100 * row['balanced_accuracy']:.2f} %"
        accuracies = f"{100 * row['accuracy']:.2f} % | {balanced} | {full}"
        numbers = (
            f"{row['weights']:,} | {accuracies} | {row['macs']:,} | {row['activation_memory_int8']:,} | {row['trial']}"
        )
        lines.append(f"| {numbers} | {row['network']} |")
    return "\n".join(lines) + "\n"
