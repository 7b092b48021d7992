"""Puts fully trained networks into zoo/, and writes the table of all networks there.

    mgnas search configs/mlperf-tiny.yaml --data cifar10.npz
    mgnas retrain runs/mlperf-tiny-1 --select --prefer accuracy --seeds 3 --int8
    python benchmarks/training/zoo.py --add runs/mlperf-tiny-1/retrained/mgnet-1d4c --name cifar10-63k
        --command "mgnas search ..." "mgnas retrain ..."
    python benchmarks/training/zoo.py                      writes results/cifar10_cpu.md alone

The network of seed 0 is the one that is put there, whatever the others gave. The accuracy of one that is chosen among
the seeds by its test accuracy would be too good. Other seeds can follow later, and from another machine: a folder
without `seed-0` adds its accuracies to those of the network that has this name already.

A network's folder has

    model.safetensors, model_card.md    as `mgnas.load` and people read them
    result.json                         as `mgnas retrain` wrote it, without the path of the images
    spread.json                         mean and standard deviation of the seeds, if there are several
    training.json                       accuracy, hours and machine of each seed, and the commands
    logits.json                         logits of generated images, to see that a network still computes what it did

Call it on the machine that has trained the networks: its processor is named in the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
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
from mgnas.reports.deploy.model_card import DIGEST, RESULT_FILE, read_exports, read_result, write_card

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
    """Put the network of seed 0 into a folder of the zoo, or more seeds of the network that is there.

    Args:
        retrained: folder with `seed-0`, `seed-1`, ..., trainings of one network by `mgnas retrain` or `mgnas train`.
            Without `seed-0` it adds to the network that is there.
        folder: of the zoo.
        commands: that led to the trainings.

    Raises:
        UserError: there is no training, a file is damaged, or seeds are added to another network than theirs.
    """
    files = retrained.glob(f"seed-*/{RESULT_FILE}")
    seeds = {int(file.parent.name.partition("-")[2]): read_result(file.parent) for file in files}
    if not seeds:
        raise UserError(f"{retrained}: no seed-0/{RESULT_FILE}; give a folder of trainings that are finished")
    if any("test_accuracy" not in result for result in seeds.values()):
        raise UserError(f"{retrained}: was not measured on test images; the zoo's networks are")
    trainings = {seed: _training(retrained / f"seed-{seed}", result) for seed, result in seeds.items()}
    if 0 in seeds:
        notes: dict[str, Any] = {"commands": list(commands)}
        _put(retrained / "seed-0", seeds[0], folder)
    else:
        notes = _same_network(retrained, seeds, folder)
        notes["commands"] += [command for command in commands if command not in notes["commands"]]
        trainings = {training["seed"]: training for training in notes["trainings"]} | trainings
    notes["trainings"] = [trainings[seed] for seed in sorted(trainings)]
    write_text(folder / TRAINING, json.dumps(notes, indent=2) + "\n")
    accuracies = [training["accuracy"] for training in notes["trainings"]]
    if len(accuracies) == 1:
        write_card(folder)
    else:
        mean, std = statistics.fmean(accuracies), statistics.stdev(accuracies)
        write_card(folder, {"seeds": len(accuracies), "mean": mean, "spread": std})


def _training(source: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What the zoo keeps of one seed's training."""
    int8 = read_exports(source).get("int8", {})
    return {
        "seed": result["seed"],
        "accuracy": result["test_accuracy"],
        "int8_accuracy": int8.get("accuracy"),
        "int8_bytes": int8.get("size"),
        "hours": round(result["seconds"] / 3600, 2),
        "machine": f"{available_cores()} cores, {processor()}",
    }


def _put(source: Path, result: dict[str, Any], folder: Path) -> None:
    """A trained network into a folder of the zoo, in place of what is there."""
    model = load_model(source)
    if (folder / TRAINING).exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / SAFETENSORS_FILE, as_safetensors(model))
    data = result["data"] | {"path": result["data"]["path"] and _ABSENT}
    write_text(folder / RESULT_FILE, json.dumps(result | {"data": data}, indent=2) + "\n")
    write_text(folder / LOGITS, json.dumps(generated_logits(model)) + "\n")


def _same_network(retrained: Path, seeds: Mapping[int, dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The zoo's notes of the network in `folder`, whose further seeds these are.

    Raises:
        UserError: there is none, or it is another network, recipe or data set.
    """
    if not (folder / TRAINING).exists():
        raise UserError(f"{retrained}: no seed-0/{RESULT_FILE}, and no network {folder.name} that these seeds add to")
    there = read_result(folder)
    for seed, result in seeds.items():
        for part in ("architecture", "training", DIGEST):
            if result.get(part) != there.get(part):
                raise UserError(f"{retrained}/seed-{seed}: its {part} differs from that of {folder}")
    return read_json(folder / TRAINING)


def networks(zoo: Path) -> list[Path]:
    """The folders of the zoo's networks, by name."""
    return sorted(file.parent for file in zoo.glob(f"*/{TRAINING}"))


def row(folder: Path) -> dict[str, Any]:
    """The network's row of the table."""
    result, trainings = read_result(folder), read_json(folder / TRAINING)["trainings"]
    model = load_model(folder)
    sizes = [training["int8_bytes"] for training in trainings if training["int8_bytes"]]
    return {
        "network": f"[{folder.name}](../../zoo/{folder.name}/model_card.md): {model.config.describe()}",
        "weights": f"{result['weights']:,}",
        "MACs": f"{result['macs']:,}",
        "test %": _accuracies([training["accuracy"] for training in trainings]),
        "int8, test %": _accuracies([training["int8_accuracy"] for training in trainings]),
        "int8 bytes": f"{sizes[0]:,}" if sizes else "",
        "epochs": result["training"]["epochs"],
        "hours a training": f"{statistics.fmean(training['hours'] for training in trainings):.2f}",
    }


def _accuracies(measured: Sequence[float | None]) -> str:
    """Mean, standard deviation and number of the seeds' accuracies. None: a seed that was not measured."""
    accuracies = [accuracy for accuracy in measured if accuracy is not None]
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
        "seed 0. Hours are elapsed ones, beside other trainings and tests on the same cores. This page is",
        "written by `python benchmarks/training/zoo.py`. Where the config's `final_training` has another label",
        "smoothing today, the one below repeats a training.",
        "",
        *table([row(folder) for folder in folders]),
    ]
    for folder in folders:
        notes, result = read_json(folder / TRAINING), read_result(folder)
        named = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        smoothing = f"`label_smoothing: {result['training']['label_smoothing']:g}`"
        machines: dict[str, list[str]] = {}
        for training in notes["trainings"]:
            words = f"seed {training['seed']} ({100 * training['accuracy']:.2f} %)"
            machines.setdefault(training["machine"], []).append(words)
        lines += ["", f"## {folder.name}", "", f"Trained with {named}, {smoothing}:", ""]
        lines += [f"- {', '.join(words)} on {machine}" for machine, words in machines.items()]
        lines += ["", "```", *notes["commands"], "```"]
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    parser.add_argument("--add", type=Path, metavar="FOLDER", help="trainings of one network")
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
