"""What the page's script draws and shows, as plain values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from ...models.cost import cost_by_part, count_weights
from ...search.trial_record import TrialRecord
from ...space.published import PublishedModel
from ..analysis.run_data import RunData
from ..figures.architecture import draw_architecture, to_svg


def page_data(runs: Sequence[RunData], published: Sequence[PublishedModel]) -> dict[str, Any]:
    """Runs with their complete trials, and published models.

    Accuracies are fractions, latencies milliseconds; `front` is 1 for networks of a run's front, which have a drawing.
    """
    return {
        "runs": [_run(run) for run in runs],
        "published": [
            {
                "label": model.label,
                "weights": count_weights(model.config),
                "accuracy": model.accuracy,
                "note": model.note,
            }
            for model in published
        ],
    }


def _run(run: RunData) -> dict[str, Any]:
    front = {record.number for record in run.front}
    trials = [_trial(run, record, record.number in front) for record in run.finished]
    return {"name": run.name, "path": str(run.path), "trials": trials}


def _trial(run: RunData, record: TrialRecord, on_front: bool) -> dict[str, Any]:
    candidate = record.candidate
    searched = {name: getattr(candidate.training, name) for name in candidate.searched_training_settings}
    config = {"architecture": candidate.architecture.to_dict()} | ({"training": searched} if searched else {})
    trial: dict[str, Any] = {
        "number": record.number,
        "weights": record.weights,
        "accuracy": round(record.accuracy, 6),
        "macs": candidate.macs,
        "front": int(on_front),
        "words": candidate.architecture.describe(),
        "yaml": yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=60),
        "curve": [round(value, 4) for value in record.curve],
        "parts": [
            [part, cost.weights]
            for part, cost in cost_by_part(candidate.architecture, candidate.image_size)
            if cost.weights
        ],
        "seconds": round(record.seconds, 1),
    }
    retrained, expected = run.retrained.get(record.number), run.expected.get(record.number)
    if retrained:
        trial["retrained"] = {"mean": retrained.mean, "spread": retrained.spread, "words": retrained.in_words()}
    if expected:
        trial["expected"] = {"accuracy": round(expected.accuracy, 6), "words": expected.in_words()}
    if record.number in run.latencies:
        trial["latency"] = [run.latencies[record.number][batch] for batch in (1, 32)]
    if on_front:
        trial["drawing"] = to_svg(draw_architecture(candidate.architecture, candidate.image_size), themed=True)
    return trial


def as_script_block(data: dict[str, Any]) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
