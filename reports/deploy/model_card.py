"""The model card: what a trained network is, where it comes from and how to use it, as Markdown beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mgnas.errors import UserError
from mgnas.files import read_json, write_text

from ...models.config import ArchitectureConfig

RESULT_FILE, EXPORTS_FILE, CARD_FILE = "result.json", "exports.json", "model_card.md"
DIGEST = "images"
"""Key of the data set's digest in result.json."""

_SEEDS_FILE = "spread.json"


def read_result(folder: Path) -> dict[str, Any]:
    """What `mgnas train` measured of the network in this folder.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    return _read_json(folder / RESULT_FILE, "train the network with `mgnas train`")


def read_exports(folder: Path) -> dict[str, Any]:
    """Kind of export -> what was measured of it; empty if nothing was exported.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / EXPORTS_FILE
    return _read_json(file, "delete it and export again") if file.exists() else {}


def _read_json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; {remedy}") from None
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{file}: is damaged; {remedy}")
    return content


def note_export(folder: Path, kind: str, facts: Mapping[str, Any]) -> None:
    """Remember what was measured of an export, and bring the card up to date."""
    exports = read_exports(folder) | {kind: dict(facts)}
    write_text(folder / EXPORTS_FILE, json.dumps(exports, indent=2) + "\n")
    write_card(folder)


def write_card(folder: Path, seeds: Mapping[str, Any] | None = None) -> Path:
    """Write `model_card.md`.

    Args:
        folder: of a trained network.
        seeds: what trainings of the same network with several seeds gave: `seeds` (their number), `mean` and `spread`
            (standard deviation) of their accuracies. It is kept in the folder's `spread.json`, which is the default.

    Raises:
        UserError: a file is missing or damaged, or the folder cannot be written.
    """
    result, exports = read_result(folder), read_exports(folder)
    if seeds is not None:
        write_text(folder / _SEEDS_FILE, json.dumps(dict(seeds)) + "\n")
    elif (folder / _SEEDS_FILE).exists():
        seeds = _read_json(folder / _SEEDS_FILE, "delete it")
    path = folder / CARD_FILE
    try:
        card = render_card(result, exports, seeds, folder.resolve().name)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder / RESULT_FILE} or {EXPORTS_FILE}: is damaged; train the network again") from None
    write_text(path, card)
    return path


def render_card(
    result: Mapping[str, Any], exports: Mapping[str, Any], seeds: Mapping[str, Any] | None, name: str
) -> str:
    """The card's text.

    Args:
        result, exports: as `read_result` and `read_exports` give them.
        seeds: as for `write_card`; None: there is one training only.
        name: of the folder, for the example.
    """
    architecture = ArchitectureConfig.from_dict(result["architecture"])
    part = "test" if "test_accuracy" in result else "validation"
    accuracy, images = result[f"{part}_accuracy"], result[f"{part}_images"]
    data = result["data"]
    lines = [
        f"# {architecture.id}",
        "",
        f"{architecture.describe()}: an image classifier of {architecture.num_classes} classes, trained by mgnas.",
        "",
        "| | |",
        "|---|---|",
        f"| weights | {result['weights']:,} |",
        f"| multiply-accumulates per image | {result['macs']:,} |",
        *_memory(result.get("memory", {})),  # Version 0.1.0 did not count it.
        f"| {part} accuracy | {100 * accuracy:.2f} % on {images:,} images, measured once |",
    ]
    if f"{part}_balanced_accuracy" in result:  # Version 0.1.0 did not measure it.
        largest, balanced = result["largest_class"], result[f"{part}_balanced_accuracy"]
        lines += [
            f"| balanced {part} accuracy | {100 * balanced:.2f} %, the mean over the classes |",
            f"| largest class | {_cell(largest['name'])}, {100 * largest['share']:.2f} % of the {part} images |",
        ]
    if seeds:
        lines.append(
            f"| {part} accuracy over {seeds['seeds']} seeds | {100 * seeds['mean']:.2f} % "
            f"+- {100 * seeds['spread']:.2f} (standard deviation) |"
        )
    lines += [
        f"| trained on | {result['training_images']:,} images of {data['name']}, seed {result['seed']} |",
        f"| trained in | {result['seconds']:,.0f} s on {result['device']} |",
        f"| versions | {', '.join(f'{key} {value}' for key, value in result['versions'].items())} |",
        "| licence | the code is Apache-2.0; the weights are yours, within the licence of the images they were "
        "trained on |",
        "",
        "## Use",
        "",
        "```python",
        "import mgnas",
        "",
        f'model = mgnas.load("{name}")',
        f"classes = model.predict(images)  # PIL images, or uint8, n x {architecture.in_channels} x height x width",
        "names = [model.class_names[i] for i in classes]",
        "```",
        "",
        *_exports(exports, architecture.in_channels),
        "## Architecture",
        "",
        "```yaml",
        _yaml(result["architecture"]),
        "```",
        "",
        "## Training",
        "",
        "```yaml",
        _yaml(result["training"]),
        "```",
        "",
        "## Limits",
        "",
        f"The accuracy holds for images like those of {data['name']}; on others it was not measured. "
        + (
            ""
            if part == "test"
            else "There were no test images: the accuracy is that on the held-out validation images. "
        )
        + "Every image gets one of the classes, also one that shows none of them.",
    ]
    return "\n".join(lines) + "\n"


def _memory(memory: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Rows of the memory that an inference needs, by the type of its numbers."""
    return [
        f"| memory of one image in {kind} | {of['activations']:,} bytes of activations at most, "
        f"{of['flash']:,} bytes of flash |"
        for kind, of in memory.items()
    ]


def _cell(text: str) -> str:
    """Text that can stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _yaml(mapping: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(mapping), sort_keys=False, width=100).rstrip()


def _exports(exports: Mapping[str, Any], channels: int) -> list[str]:
    if not exports:
        return []
    lines = ["## Exports", "", "Raw uint8 images in, logits out; any number of images at a time, unless noted.", ""]
    lines += ["| file | bytes | against PyTorch |", "|---|---:|---|"]
    for kind, facts in exports.items():
        if kind == "int8":
            continue
        images = f"{facts['images']:,} {'random ' if facts.get('random_images') else ''}images"
        measured = f"largest difference of a logit {facts['difference']:.1e} on {images}"
        lines.append(f"| {facts['file']} | {facts['size']:,} | {measured} |")
    if "onnx" in exports:
        lines += [
            "",
            "```python",
            "import json, numpy, onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{exports["onnx"]["file"]}")',
            f'(logits,) = session.run(["logits"], {{"images": images}})  # uint8, n x {channels} x height x width',
            'names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])',
            "```",
        ]
    if "executorch" in exports:
        lines += [
            "",
            "```python",
            "import json, torch",
            "from executorch.runtime import Runtime",
            "",
            f'program = Runtime.get().load_program("{exports["executorch"]["file"]}")',
            f"# image: a uint8 tensor, 1 x {channels} x height x width",
            '(logits,) = program.load_method("forward").execute([image])',
            'names = json.loads(program.load_method("class_names").execute([])[0])',
            "```",
        ]
    if "litert" in exports:
        lines += [
            "",
            "```python",
            "from ai_edge_litert.interpreter import Interpreter",
            "",
            f'interpreter = Interpreter("{exports["litert"]["file"]}")',
            "interpreter.allocate_tensors()",
            f"# image: a uint8 array, 1 x {channels} x height x width",
            'interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)',
            "interpreter.invoke()",
            'logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])',
            f"names = {exports['litert']['class_names']}",
            "```",
        ]
    if "int8" in exports:
        lines += ["", f"{exports['int8']['words']}."]
    return [*lines, ""]
