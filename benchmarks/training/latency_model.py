"""How well a latency model predicts networks that it does not know.

Draws random networks of each space (seed 0), measures each in ONNX Runtime on one thread, and predicts each from all
others of its space, as `mgnas latency` does. Leave the machine alone meanwhile.

    python benchmarks/training/latency_model.py --out FILE [--networks 40] [--seconds 0.5]
        [--configs configs/digits.yaml configs/cifar10.yaml]

--out is a file of JSON lines, outside the checkout; the same call goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cases import processor
from resumable import run_script
from stability import distinct_candidates
from tables import table

from mgnas.errors import UserError, first_line
from mgnas.reports.deploy.latency.fit import prediction_errors
from mgnas.reports.deploy.latency.measure import quartiles
from mgnas.reports.deploy.latency.untrained import write_untrained
from mgnas.search.config import SearchConfig
from mgnas.space.candidate import Candidate

_CONFIGS = Path(__file__).parents[2] / "configs"


def milliseconds(candidate: Candidate, seconds: float) -> float:
    """The median for one image."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        write_untrained(candidate, file)
        size = candidate.image_size
        return quartiles(file, (1, candidate.architecture.in_channels, size, size), seconds=seconds)[1]


def _known(file: Path) -> dict[tuple[str, str], float]:
    """Milliseconds by config and network, as an earlier call has left them."""
    lines = file.read_text().splitlines() if file.exists() else []
    try:
        entries = [json.loads(line) for line in lines]
        return {(entry["config"], entry["network"]): entry["ms"] for entry in entries}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: is damaged; delete it, and all networks are measured again") from None


def measure(options: argparse.Namespace) -> list[str]:
    """Measure what is missing, and return the table.

    Raises:
        UserError: too few networks, a wrong config, or a damaged file.
    """
    if options.networks < 2:
        raise UserError(f"--networks: expected at least 2, since one is predicted from others, got {options.networks}")
    known, rows = _known(options.out), []
    for file in options.configs:
        space = SearchConfig.load(file).search_space()
        candidates = distinct_candidates(space, options.networks, 0, space.image_size)
        for candidate in candidates:
            key = file.stem, candidate.id
            if key not in known:
                known[key] = milliseconds(candidate, options.seconds)
                with options.out.open("a") as out:
                    out.write(json.dumps({"config": key[0], "network": key[1], "ms": known[key]}) + "\n")
        times = [known[file.stem, candidate.id] for candidate in candidates]
        low, middle, high = np.percentile(prediction_errors([one.cost for one in candidates], times), (25, 50, 75))
        rows.append(
            {
                "space": file.stem,
                "networks": len(candidates),
                "ms for 1 image": f"{min(times):.2f} to {max(times):.2f}, median {statistics.median(times):.2f}",
                "median error": f"{100 * middle:.1f} %",
                "quartiles": f"{100 * low:.1f} to {100 * high:.1f} %",
            }
        )
    return [f"One thread of {processor()}.", "", *table(rows)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--networks", type=int, default=40, metavar="N", help="of each space (default: 40)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of measuring a network (default: 0.5)")
    defaults = [_CONFIGS / "digits.yaml", _CONFIGS / "cifar10.yaml"]
    parser.add_argument("--configs", type=Path, nargs="+", default=defaults, metavar="FILE")
    options = parser.parse_args(arguments)
    return run_script(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
