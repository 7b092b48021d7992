"""What the page's script draws and shows, as plain values."""

from __future__ import annotations

import collections
import json
from collections.abc import Sequence
from typing import Any, get_args

import yaml

from ...models.cost import cost_by_part, count_weights
from ...search.trial_record import CompletedTrial
from ...space.published import PublishedModel
from ..analysis.run_data import RunData
from ..analysis.select import Preference, by_preference
from ..deploy.portable_paths import shown_path
from ..figures.architecture import draw_architecture
from ..figures.front import accuracy_range
from ..figures.svg import to_svg

# Circle, square, triangle, diamond, triangle upside down, cross.
MARKS = (
    "M-1,0A1,1 0 1,0 1,0A1,1 0 1,0 -1,0Z",
    "M-1,-1H1V1H-1Z",
    "M0,-1.25L1.2,1H-1.2Z",
    "M0,-1.3L1.3,0L0,1.3L-1.3,0Z",
    "M0,1.25L1.2,-1H-1.2Z",
    "M-1,-.33H-.33V-1H.33V-.33H1V.33H.33V1H-.33V.33H-1Z",
)
"""SVG paths of the runs' marks, about 2 units wide; they differ in shape, so that runs can be told apart in grey."""

PUBLISHED_MARK = MARKS[3]


def page_data(runs: Sequence[RunData], published: Sequence[PublishedModel]) -> dict[str, Any]:
    """Runs with their complete trials, published models, and how to draw both.

    Accuracies are fractions, latencies milliseconds. `front` is 1 for networks of a run's front, which have a drawing.
    `ranks` has a trial's place in its run for each preference: of the trials that keep the limits, `mgnas select` takes
    the one with the lowest. `band` has [weights, low, high] for each budget at which the interval of the best accuracy
    changes. `ranges` are limits of the accuracy axis, with published models and without.
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
        "ranges": {"published": _fractions(runs, published), "own": _fractions(runs, ())},
        "marks": MARKS,
        "published_mark": PUBLISHED_MARK,
    }


def _fractions(runs: Sequence[RunData], published: Sequence[PublishedModel]) -> list[float]:
    return [round(limit / 100, 6) for limit in accuracy_range(runs, published)]


def _run(run: RunData) -> dict[str, Any]:
    front = {trial.number for trial in run.front}
    ranks = preference_ranks(run)
    trials = [_trial(run, trial, trial.number in front) | {"ranks": ranks[trial.number]} for trial in run.finished]
    plain: dict[str, Any] = {"name": run.name, "path": shown_path(run.path), "trials": trials}
    if run.confidence is not None:
        plain["band"] = [[best.weights, best.low, best.high] for best in run.confidence.best_within]
    return plain


def preference_ranks(run: RunData) -> dict[int, dict[Preference, int]]:
    """Trial number -> preference -> place among the run's complete trials, 0 for the preferred one.

    `expected` is missing if the run has too few complete trials for it.
    """
    trials, front = run.finished, run.front
    ranks: dict[int, dict[Preference, int]] = collections.defaultdict(dict)
    for prefer in get_args(Preference):
        if prefer != "expected" or run.expected:
            for rank, trial in enumerate(by_preference(trials, front, prefer, run.expected)):
                ranks[trial.number][prefer] = rank
    return ranks


def _trial(run: RunData, trial: CompletedTrial, on_front: bool) -> dict[str, Any]:
    candidate = trial.candidate
    searched = {name: getattr(candidate.training, name) for name in candidate.searched_training_settings}
    config = {"architecture": candidate.architecture.to_dict()} | ({"training": searched} if searched else {})
    plain: dict[str, Any] = {
        "number": trial.number,
        "weights": trial.weights,
        "accuracy": round(trial.accuracy, 6),
        "macs": trial.macs,
        "memory": [candidate.activation_memory(int8) for int8 in (False, True)],
        "flash": [candidate.flash_memory(int8) for int8 in (False, True)],
        "front": int(on_front),
        "words": candidate.architecture.describe(),
        "yaml": yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=60),
        "curve": [round(value, 4) for value in trial.curve],
        "parts": [
            [part, cost.weights]
            for part, cost in cost_by_part(candidate.architecture, candidate.image_size)
            if cost.weights
        ],
    }
    if trial.balanced_accuracy is not None:
        plain["balanced"] = round(trial.balanced_accuracy, 6)
    retrained, expected = run.retrained.get(trial.number), run.expected.get(trial.number)
    if retrained:
        plain["retrained"] = {"mean": retrained.mean, "std": retrained.std, "words": retrained.in_words()}
    if expected:
        part = round(expected.on_front, 4)
        plain["expected"] = {"accuracy": round(expected.accuracy, 6), "front": part, "words": expected.in_words()}
    if trial.number in run.latencies:
        plain["latency"] = [run.latencies[trial.number][batch] for batch in (1, 32)]
    if on_front:
        plain["drawing"] = to_svg(draw_architecture(candidate.architecture, candidate.image_size), themed=True)
    return plain


def as_script_block(data: dict[str, Any]) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
