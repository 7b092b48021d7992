"""Measures how long networks take in ONNX Runtime on this machine. It needs onnxruntime and numpy alone.

In a kit of `mgnas latency RUN --kit FOLDER`, `python measure.py --device NAME` measures the networks of the kit,
in float32 and int8, for 1 and for 32 images at a time. It writes latency.json for `mgnas report RUN --latency`.
"""

import argparse
import json
import platform
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path

FORMAT = 1
"""Version of kit.json and latency.json."""

BATCHES = (1, 32)
"""Numbers of images for which latencies are measured."""

DEVICE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

_MIN_RUNS, _MAX_RUNS = 3, 1000


def quartiles(network, shape, threads=1, seconds=0.3):
    """The lower quartile, the median and the upper quartile of the milliseconds of a run.

    Args:
        network: an ONNX file that takes uint8 `images`.
        shape: of the images, n x channels x height x width.
        threads: that compute.
        seconds: to measure, after one run that does not count.
    """
    import numpy
    import onnxruntime  # Here, because mgnas reads the constants of this module without it, too.

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    images = numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)
    session.run(None, {"images": images})
    times = []
    while len(times) < _MIN_RUNS or (sum(times) < seconds and len(times) < _MAX_RUNS):
        start = time.perf_counter()
        session.run(None, {"images": images})
        times.append(time.perf_counter() - start)
    return [round(1000 * float(value), 5) for value in numpy.percentile(times, (25, 50, 75))]


def main():
    missing = [package for package in ("onnxruntime", "numpy") if find_spec(package) is None]
    if missing:
        sys.exit(f"measure.py needs {' and '.join(missing)}: python -m pip install {' '.join(missing)}")
    import onnxruntime

    parser = argparse.ArgumentParser(description="Measure the networks of this kit, and write latency.json.")
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node())[:64].lstrip("-_.") or "device"
    parser.add_argument("--device", default=host, help="name of this machine (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="that compute (default: 1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each network, type and batch (default: 1)")
    parser.add_argument("--output", default="latency.json", help="file to write (default: latency.json)")
    options = parser.parse_args()
    if not re.fullmatch(DEVICE_NAME, options.device):
        parser.error(f"--device: expected letters, digits, '-', '_' and '.', at most 64, got {options.device!r}")
    if options.threads < 1:
        parser.error(f"--threads: expected 1 or more, got {options.threads}")
    folder = Path(__file__).resolve().parent
    try:
        kit = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
        networks = kit["networks"] if kit["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        networks = {}
    if not networks:
        parser.error("kit.json: is missing, damaged or of another version; copy the whole kit again")
    measured = {}
    for key, network in networks.items():
        measured[key] = {
            kind: {
                str(batch): quartiles(folder / file, (batch, *network["image"]), options.threads, options.seconds)
                for batch in BATCHES
            }
            for kind, file in network["files"].items()
        }
        single = ", ".join(f"{kind} {times['1'][1]:.3g} ms" for kind, times in measured[key].items())
        print(f"{key}: {single} for 1 image", flush=True)
    result = {
        "format": FORMAT,
        "device": options.device,
        "threads": options.threads,
        "processor": platform.processor() or platform.machine(),
        "onnxruntime": onnxruntime.__version__,
        "networks": measured,
    }
    file = Path(options.output)
    unfinished = file.with_name(file.name + ".new")
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(file)
    print(f"Wrote {file}")


if __name__ == "__main__":
    main()
