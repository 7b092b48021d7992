"""Puts fully trained networks into zoo/, and writes the table of all networks there.

    mgnas search configs/mlperf-tiny.yaml --data cifar10.npz
    mgnas retrain runs/mlperf-tiny-1 --select --prefer accuracy --seeds 3 --int8
    python benchmarks/training/zoo.py --add runs/mlperf-tiny-1/retrained/mgnet-1d4c --name cifar10-63k
        --command "mgnas search ..." "mgnas retrain ..."
    python benchmarks/training/zoo.py                      writes results/cifar10_cpu.md alone

The network of seed 0 is the one that is put there, whatever the others gave. The accuracy of one that is chosen among
the seeds by its test accuracy would be too good. A network's folder has

    model.safetensors, model_card.md    as `mgnas.load` and people read them
    result.json, spread.json            as `mgnas retrain` wrote them, without the path of the images
    training.json                       accuracies of all seeds, the commands and the machine
    logits.json                         logits of generated images, to see that a network still computes what it did

Call it on the machine that has trained the networks: its processor is named in the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import available_cores, processor
from resumable import run_script
from tables import table

from mgnas.errors import UserError, first_line
from mgnas.files import read_json, write_bytes, write_text
from mgnas.reports.deploy.classifier import SAFETENSORS_FILE, Classifier, load_model
from mgnas.reports.deploy.export import as_safetensors
from mgnas.reports.deploy.model_card import RESULT_FILE, read_exports, read_result, write_card

ROOT = Path(__file__).parents[2]
ZOO, TABLE = ROOT / "zoo", ROOT / "benchmarks" / "results" / "cifar10_cpu.md"
TRAINING, LOGITS = "training.json", "logits.json"
IMAGES = 8
_ABSENT = "images-are-not-in-the-zoo.npz"


def generated_logits(model: Classifier) -> list[list[float]]:
    """Logits of `IMAGES` images of random pixels (NumPy's default_rng(0)), which every NumPy generates alike."""
    size = model.image_size
    assert size is not None, "every training of today stores it"
    shape = (IMAGES, model.config.in_channels, size, size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with torch.inference_mode():
        return model(torch.from_numpy(images)).tolist()


def add(retrained: Path, folder: Path, commands: Sequence[str]) -> None:
    """Put the network of seed 0 into a folder of the zoo.

    Args:
        retrained: folder of a network that `mgnas retrain` has trained with several seeds.
        folder: of the zoo; what it has is replaced.
        commands: that led to the network.

    Raises:
        UserError: there is no network, or a file is damaged.
    """
    seeds = sorted(retrained.glob(f"seed-*/{RESULT_FILE}"), key=lambda file: int(file.parent.name.partition("-")[2]))
    if not seeds or seeds[0].parent.name != "seed-0":
        raise UserError(
            f"{retrained}: no seed-0/{RESULT_FILE}; give a folder in RUN/retrained whose training is finished"
        )
    source, results = seeds[0].parent, [read_result(file.parent) for file in seeds]
    if any("test_accuracy" not in result for result in results):
        raise UserError(f"{retrained}: was not measured on test images; the zoo's networks are")
    exports = [read_exports(file.parent).get("int8") for file in seeds]
    model = load_model(source)
    if (folder / TRAINING).exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / SAFETENSORS_FILE, as_safetensors(model))
    data = results[0]["data"]
    result = results[0] | {"data": data | {"path": data["path"] and _ABSENT}}
    write_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    if (source / "spread.json").exists():
        shutil.copyfile(source / "spread.json", folder / "spread.json")
    training = {
        "accuracies": [result["test_accuracy"] for result in results],
        "int8_accuracies": [export["accuracy"] for export in exports if export],
        "int8_bytes": next((export["size"] for export in exports if export), None),
        "hours": round(sum(result["seconds"] for result in results) / 3600 / len(results), 2),
        "machine": f"{available_cores()} cores, {processor()}",
        "commands": list(commands),
    }
    write_text(folder / TRAINING, json.dumps(training, indent=2) + "\n")
    write_text(folder / LOGITS, json.dumps(generated_logits(model)) + "\n")
    write_card(folder)


def networks(zoo: Path) -> list[Path]:
    """The folders of the zoo's networks, by name."""
    return sorted(file.parent for file in zoo.glob(f"*/{TRAINING}"))


def row(folder: Path) -> dict[str, Any]:
    """The network's row of the table."""
    result, training = read_result(folder), read_json(folder / TRAINING)
    model = load_model(folder)
    return {
        "network": f"[{folder.name}](../../zoo/{folder.name}/model_card.md): {model.config.describe()}",
        "weights": f"{result['weights']:,}",
        "MACs": f"{result['macs']:,}",
        "test %": _accuracies(training["accuracies"]),
        "int8, test %": _accuracies(training["int8_accuracies"]),
        "int8 bytes": "" if training["int8_bytes"] is None else f"{training['int8_bytes']:,}",
        "epochs": result["training"]["epochs"],
        "hours a training": training["hours"],
    }


def _accuracies(accuracies: Sequence[float]) -> str:
    """Mean, standard deviation and number of the seeds' accuracies."""
    if not accuracies:
        return ""
    if len(accuracies) == 1:
        return f"{100 * accuracies[0]:.2f} (1 seed)"
    mean, std = statistics.fmean(accuracies), statistics.stdev(accuracies)
    return f"{100 * mean:.2f} +- {100 * std:.2f} ({len(accuracies)} seeds)"


def page(folders: Sequence[Path]) -> str:
    """The page with the table of these networks, and what made each of them."""
    lines = [
        "# CIFAR-10 on two CPU cores",
        "",
        "Networks of [zoo/](../../zoo), trained on all 50,000 training images and measured once on the 10,000",
        "test images. Behind each mean is the standard deviation between seeds. The zoo has the network of",
        "seed 0. This page is written by `python benchmarks/training/zoo.py`.",
        "",
        *table([row(folder) for folder in folders]),
    ]
    for folder in folders:
        training, versions = read_json(folder / TRAINING), read_result(folder)["versions"]
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines += ["", f"## {folder.name}", "", f"Trained on {training['machine']}, {named}.", ""]
        lines += ["```", *training["commands"], "```"]
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    parser.add_argument("--add", type=Path, metavar="FOLDER", help="a network's folder in RUN/retrained")
    parser.add_argument("--name", metavar="NAME", help="of its folder in the zoo")
    parser.add_argument("--command", nargs="+", default=[], metavar="LINE", help="what led to it, for the table's page")
    parser.add_argument("--zoo", type=Path, default=ZOO, metavar="FOLDER")
    parser.add_argument("--page", type=Path, default=TABLE, metavar="FILE")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[str]:
    """Add a network, if one is given, and write the page. Returns its table.

    Raises:
        UserError: options are wrong, or a file cannot be read.
    """
    if (options.add is None) != (options.name is None):
        raise UserError("--add and --name: give both or none")
    if options.add is not None:
        add(options.add, options.zoo / options.name, options.command)
    folders = networks(options.zoo)
    if not folders:
        raise UserError(f"{options.zoo}: no networks; --add puts one there")
    write_text(options.page, page(folders))
    return table([row(folder) for folder in folders])


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return run_script(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
