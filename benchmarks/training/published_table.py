"""The table of published accuracies beside ours, from the states that `published.py` keeps of its trainings."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from tables import table

from mgnas.models.cost import count_weights
from mgnas.space.published import PUBLISHED, PublishedModel, published_model

_HOW = """\
SGD with Nesterov momentum, linear warm-up (in epochs), cosine decay to zero, random crops and flips, and AutoAugment if
it is named. Test images are seen once, at the end; Tiny ImageNet's are its published validation images, as its test
labels are not public. Seconds: of all epochs of a training, mean over trainings."""


def table_rows(states: Sequence[dict[str, Any]], default_rows: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the table.

    A row appears once for each set of settings that it was trained with. Accuracies are fractions. `std` is the
    standard deviation of a sample, None for a single training.

    Args:
        states: what is known of each training.
        default_rows: names of rows that come first, and appear even if they are untrained.
    """
    order = [*default_rows, *(row.name for row in PUBLISHED if row.name not in default_rows)]
    rows = []
    for name in order:
        groups: dict[str, list[dict[str, Any]]] = {}
        for state in states:
            if state["row"] == name:
                groups.setdefault(json.dumps(state["settings"], sort_keys=True), []).append(state)
        if not groups and name in default_rows:
            groups[""] = []
        rows += [_table_row(published_model(name), groups[key]) for key in sorted(groups)]
    return rows


def _table_row(row: PublishedModel, states: list[dict[str, Any]]) -> dict[str, Any]:
    states = sorted(states, key=lambda state: state["seed"])
    finished = [state for state in states if state.get("test_accuracy") is not None]
    accuracies = [state["test_accuracy"] for state in finished]
    environments = [environment for state in states for environment in state["environments"]]
    return {
        "row": row.name,
        "label": row.label,
        "dataset": row.dataset,
        "weights_published": row.weights,
        "weights_counted": count_weights(row.config),
        "note": row.note,
        "accuracy_published": row.accuracy,
        "accuracy": round(statistics.fmean(accuracies), 6) if accuracies else None,
        "std": round(statistics.stdev(accuracies), 6) if len(accuracies) > 1 else None,
        "n": len(accuracies),
        "seeds": [state["seed"] for state in finished],
        "progress": [_progress(state) for state in states if state not in finished],
        "settings": states[0]["settings"] if states else None,
        "hardware": sorted({environment["hardware"] for environment in environments}),
        "versions": sorted({environment["versions"] for environment in environments}),
        "seconds_per_training": round(statistics.fmean(state["seconds"] for state in finished), 1)
        if finished
        else None,
    }


def _progress(state: dict[str, Any]) -> str:
    if "failure" in state:
        return f"seed {state['seed']}: {state['failure']}"
    return f"seed {state['seed']}: epoch {state['epoch']} of {state['settings']['epochs']}"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table as a Markdown page: both accuracies side by side, how ours were trained, and notes."""
    results, trainings = [], []
    for number, row in enumerate(rows, 1):
        results.append(
            {
                "#": number,
                "Network": row["label"],
                "Data set": row["dataset"],
                "Weights published": row["weights_published"],
                "counted": f"{row['weights_counted']:,}",
                "Accuracy published": f"{100 * row['accuracy_published']:.2f}",
                "ours": _ours(row),
            }
        )
        if (used := row["settings"]) is None:
            continue
        recipe = (
            f"batch {used['batch_size']}, learning rate {used['learning_rate']:g}, warm-up {used['warmup_epochs']:g}, "
            f"momentum {used['momentum']:g}, weight decay {used['weight_decay']:g}, "
            f"label smoothing {used['label_smoothing']:g}, gradient clip {used['gradient_clip']:g}, "
            f"crop padding {used['crop_padding']}"
            f"{'' if used['augmentation'] == 'none' else ', ' + used['augmentation']}"
        )
        seconds = "-" if row["seconds_per_training"] is None else f"{row['seconds_per_training']:,.1f}"
        trainings.append(
            {
                "#": number,
                "Row": row["row"],
                "Epochs": used["epochs"],
                "Training images": f"{used['training_images']:,}",
                "Test images": f"{used['test_images']:,}",
                "Image size": used["image_size"],
                "Recipe": recipe,
                "Hardware": "; ".join(row["hardware"]),
                "Versions": "; ".join(row["versions"]),
                "Seconds": seconds,
            }
        )
    lines = ["# Published accuracies, and ours", ""]
    lines += ["Test accuracy in %: mean, standard deviation (of a sample) and number of trainings over seeds.", ""]
    lines += table(results)
    if trainings:
        lines += ["", "## How ours were trained", "", _HOW, "", *table(trainings)]
    notes = dict.fromkeys(f"- {row['row']}: {row['note']}" for row in rows if row["note"])
    return "\n".join([*lines, "", "## Notes on the weights", "", *notes]) + "\n"


def _ours(row: dict[str, Any]) -> str:
    parts = list(row["progress"])
    if row["n"]:
        spread = "" if row["std"] is None else f"std {100 * row['std']:.2f}, "
        parts.insert(0, f"{100 * row['accuracy']:.2f} ({spread}n = {row['n']})")
    return "; ".join(parts) or "not trained"
