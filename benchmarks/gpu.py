"""Everything that is owed of a GPU, in one call that ends in time.

    python benchmarks/gpu.py --seconds 520 --out DIR [--data CIFAR10] [--steps correctness ...]
    python benchmarks/gpu.py --device cpu --tiny --out DIR              try all steps on a CPU
    python benchmarks/gpu.py pack --data cifar10.npz --out DIR          what a machine without network needs

Each step writes DIR/STEP.jsonl while it runs. At the end, the results are summed up in DIR/summary.md and printed. The
same call again does what is missing. Nothing is needed but torch, torchvision, scikit-learn, mgnas and pydantic.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "training"))
from steps import Context, Step, read_rows, run_step, start_server
from tables import table

STEPS = {
    "environment": Step(10, "gpu_steps:environment", 10),
    "correctness": Step(75, "correctness:jobs", 25),
    "convolutions": Step(70, "convolutions:jobs", 25),
    "throughput": Step(130, "gpu_steps:throughput", 60),
    "profile": Step(25, "gpu_steps:profile", 25),
    "packing": Step(60, "gpu_steps:packing", 40),
    "published": Step(float("inf"), "gpu_steps:published_row", float("inf")),
}
_CHARACTERS = {"environment": 1000, "correctness": 2400, "convolutions": 2900, "throughput": 2100, "profile": 1900}
_DEFAULT_CHARACTERS = 700
_RESERVE = 4
"""Seconds that are kept for the summary."""


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "pack":
        return pack(arguments[1:])
    options = parse(arguments)
    context = Context(options.device, options.tiny, options.data, options.row, 0.0, options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    return run_steps({name: STEPS[name] for name in options.steps}, context, time.monotonic() + options.seconds)


def run_steps(steps: Mapping[str, Step], context: Context, deadline: float) -> int:
    """Run the steps that have not ended yet, and sum up all results in the folder.

    Args:
        steps: by name.
        context: for all steps; its path is the folder of results.
        deadline: a time of time.monotonic.

    Returns:
        The exit status: 1 if a step is not done or a job has failed.
    """
    folder = context.path
    start_server()
    for name, step in steps.items():
        path = folder / f"{name}.jsonl"
        _, end = read_rows(path)
        begin = time.monotonic()
        # A CPU that has other work, too, may be slow.
        until = min(begin + (float("inf") if context.tiny else step.seconds), deadline - _RESERVE)
        if (end is not None and end["status"] == "done") or begin >= until:
            continue
        end = run_step(name, step, replace(context, deadline=until, path=path, rows={}))
        print(f"{name}: {end['status']}, {end['seconds']:.0f} s", flush=True)
    text, complete = summary(folder, steps, context)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    print("\n" + text)
    return int(not complete)


def summary(folder: Path, steps: Mapping[str, Step], context: Context) -> tuple[str, bool]:
    """(Markdown of at most 12,000 characters, whether every step is done without a failure)."""
    lines = ["# Measurements on a GPU" if context.device == "cuda" else "# A trial on a CPU", ""]
    lines += ["Throughput, profile and packing train on random images. " + _of_data(context)]
    complete = True
    for name in steps:
        rows, end = read_rows(folder / f"{name}.jsonl")
        failures = [row for row in rows.values() if "failure" in row or row.get("begun")]
        status = "not run" if end is None else f"{end['status']}, {end['seconds']:.0f} s"
        complete = complete and end is not None and end["status"] == "done" and not failures
        lines += ["", f"## {name}: {status}, {len(rows)} jobs, {len(failures)} failed", ""]
        if end is not None and "output" in end:
            lines += [line[:200] for line in end["output"][-3:]]
        shown = [*failures, *(row for row in rows.values() if row not in failures)]
        lines += fitting(shown, _CHARACTERS.get(name, _DEFAULT_CHARACTERS), f"{name}.jsonl")
    return "\n".join(lines)[:11_900] + "\n", complete


def _of_data(context: Context) -> str:
    if context.data is None:
        return "Without --data no published network is trained."
    return f"The published network is trained on {context.data.name}."


def fitting(rows: list[dict[str, Any]], characters: int, file: str) -> list[str]:
    """As many rows of a table as fit, and how many are left out. Cells that are lists are in the file only."""
    cells = []
    for row in rows:
        short = {key: str(value)[:200] for key, value in row.items() if isinstance(value, (str, int, float))}
        cells.append({"job": short.pop("job")} | short)
    for count in range(len(cells), 0, -1):
        lines = table(cells[:count])
        if sum(map(len, lines)) + len(lines) <= characters:
            return lines if count == len(cells) else [*lines, f"... {len(cells) - count} more in {file}"]
    return [f"{len(cells)} rows in {file}"] if cells else []


def pack(arguments: Sequence[str]) -> int:
    """Write the wheels that a machine with torch lacks, and CIFAR-10 in parts that each transfer can carry."""
    parser = argparse.ArgumentParser(prog="gpu.py pack", description=pack.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: an npz file or torchvision's folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=2, help="a half is 52 MiB")
    parser.add_argument("--python", default="3.12", help="version of Python there")
    options = parser.parse_args(arguments)
    import packed_images

    wheels = options.out / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip"]
    root = str(Path(__file__).parents[1])
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, root], check=True)
    target = ["--only-binary=:all:", "--python-version", options.python, "--dest", wheels]
    subprocess.run([*pip, "download", "--quiet", *target, "pydantic"], check=True)
    images = packed_images.load_cifar10(options.data)
    for path in [*packed_images.pack(images, options.out, options.parts), *sorted(wheels.iterdir())]:
        print(f"{path} {path.stat().st_size / 2**20:.1f} MiB")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--seconds", type=float, default=520, help="for everything")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of results")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="CIFAR-10: a folder of parts, an npz file, torchvision's"
    )
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="NAME", help=", ".join(STEPS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="everything as small as possible, to try it")
    parser.add_argument("--row", default="resnet18-cifar10", help="published network to train")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu takes days without --tiny")
    return options


if __name__ == "__main__":
    sys.exit(main())
