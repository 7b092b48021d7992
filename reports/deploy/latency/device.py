"""Latencies on other devices: the results of kits (kit.py), which a run keeps in `devices/NAME.json`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mgnas.errors import UserError
from mgnas.files import read_json, short, write_text

from ....space.candidate import Candidate
from .fit import MIN_NETWORKS, FittedLatency, fit_with_error
from .measure import BATCHES, DEVICE_NAME, FORMAT
from .meter import LatencyMeter, network_key

_DEVICES = "devices"
_KINDS = ("float32", "int8")


class DeviceLatencies(LatencyMeter):
    """What was measured on a device. Other networks are predicted from those of the run that were measured.

    Args:
        content: of a file that measure.py has written, as `read_device_latencies` gives it.
        candidates: of the run.
    """

    def __init__(self, content: dict[str, Any], candidates: Iterable[Candidate]) -> None:
        super().__init__()
        self.name: str = content["device"]
        threads = "one thread" if content["threads"] == 1 else f"{content['threads']} threads"
        runtime = f"ONNX Runtime {content['onnxruntime']}"
        self.machine = f"{self.name} ({threads} of {content['processor']}, {runtime}, float32)"
        self._times: dict[str, dict[str, dict[str, list[float]]]] = content["networks"]
        self._candidates = {network_key(c): c for c in candidates if network_key(c) in self._times}
        self._fitted: dict[int, FittedLatency] = {}

    def quartiles(self, candidate: Candidate, kind: str = "float32", batch: int = 1) -> list[float] | None:
        """Lower quartile, median and upper quartile of the milliseconds; None: not measured."""
        return self._times.get(network_key(candidate), {}).get(kind, {}).get(str(batch))

    def latencies(self, candidate: Candidate) -> dict[int, float]:
        """Batch -> milliseconds in float32, measured or predicted.

        Raises:
            UserError: it was not measured, and too few others were.
        """
        return {batch: self._latency(candidate, batch) for batch in BATCHES}

    def _latency(self, candidate: Candidate, batch: int) -> float:
        measured = self.quartiles(candidate, batch=batch)
        return self.fitted(batch).model.milliseconds(candidate.cost) if measured is None else measured[1]

    def fitted(self, batch: int = 1) -> FittedLatency:
        """The model of the milliseconds for `batch` images.

        Raises:
            UserError: too few networks were measured.
        """
        if batch not in self._fitted:
            candidates = list(self._candidates.values())
            if not self.predicts:
                problem = f"{len(candidates)} measured networks are too few to predict others"
                raise UserError(f"device {self.name}: {problem}; a new kit has at least {MIN_NETWORKS}")
            times = [self._latency(candidate, batch) for candidate in candidates]
            self._fitted[batch] = fit_with_error([candidate.cost for candidate in candidates], times)
        return self._fitted[batch]

    @property
    def predicts(self) -> bool:
        """Whether enough networks were measured to predict others."""
        return len(self._candidates) >= MIN_NETWORKS

    def in_words(self, candidate: Candidate) -> str:
        """The latency for one image, and where it comes from."""
        origin = "measured"
        if self.quartiles(candidate) is None:
            fitted = self.fitted()
            origin = f"predicted from {fitted.networks} networks with a median error of {100 * fitted.error:.0f} %"
        return f"{self.latencies(candidate)[1]:.4g} ms for 1 image on {self.machine}, {origin}"


def add_device_latencies(run: Path, files: Sequence[Path], candidates: Sequence[Candidate]) -> None:
    """Keep what kits have measured in a run. An earlier measurement on a device of the same name is replaced.

    Args:
        run: its directory.
        files: that measure.py has written.
        candidates: of the run.

    Raises:
        UserError: a file is missing, damaged, of another version, or has none of the run's networks; or two are of one
            device. Nothing is kept then.
    """
    keys, contents = {network_key(candidate) for candidate in candidates}, []
    origins: dict[str, Path] = {}
    for file in files:
        content = read_device_latencies(file)
        name = content["device"]
        if name in origins:
            rename = "measure with another `--device NAME`, or give one of the files"
            raise UserError(f"{file}: device {name} is that of {origins[name]}, too; {rename}")
        if not keys & content["networks"].keys():
            raise UserError(f"{file}: has no network of {run}; it comes from the kit of another run")
        origins[name] = file
        contents.append(content)
    for content in contents:
        write_text(_file(run, content["device"]), json.dumps(content, indent=1) + "\n")


def load_device_latencies(run: Path, candidates: Sequence[Candidate]) -> list[DeviceLatencies]:
    """The devices on which networks of a run were measured, by name.

    Raises:
        UserError: a file is damaged.
    """
    files = sorted((run / _DEVICES).glob("*.json"))
    return [DeviceLatencies(read_device_latencies(file), candidates) for file in files]


def device_latencies(run: Path, device: str, candidates: Sequence[Candidate]) -> DeviceLatencies:
    """One of `load_device_latencies`.

    Raises:
        UserError: the run has no such device.
    """
    devices = {latencies.name: latencies for latencies in load_device_latencies(run, candidates)}
    if device not in devices:
        known = f"it has {', '.join(devices)}" if devices else f"`mgnas latency {run} --kit FOLDER` says how to get it"
        raise UserError(f"--device {device}: {run} has no latencies of this device; {known}")
    return devices[device]


def _file(run: Path, device: str) -> Path:
    (run / _DEVICES).mkdir(exist_ok=True)
    return run / _DEVICES / f"{device}.json"


def read_device_latencies(file: Path) -> dict[str, Any]:
    """The content of a file that measure.py has written.

    Raises:
        UserError: it is missing, damaged or of another version, or a number in it is no latency.
    """
    again = "copy it again, or run measure.py once more"
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; measure.py of a kit writes it") from None
    except (OSError, ValueError):
        raise UserError(f"{file}: is cut off or no JSON; {again}") from None
    if not isinstance(content, dict) or "format" not in content or not isinstance(content.get("networks"), dict):
        raise UserError(f"{file}: was not written by measure.py of a kit; {again}")
    if content["format"] != FORMAT:
        versions = f"has format {short(content['format'])}, and this version of mgnas reads {FORMAT}"
        raise UserError(f"{file}: {versions}; write a new kit with `mgnas latency RUN --kit FOLDER`")
    device, threads = content.get("device"), content.get("threads")
    if not isinstance(device, str) or not re.fullmatch(DEVICE_NAME, device):
        expected = "letters, digits, '-', '_' and '.', at most 64"
        raise UserError(f"{file}: device: expected {expected}, got {short(device)}; {again}")
    texts = (content.get("processor"), content.get("onnxruntime"))
    if type(threads) is not int or threads < 1 or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{file}: threads, processor or onnxruntime is missing; {again}")
    for key, kinds in content["networks"].items():
        _check_network(file, key, kinds)
    return content


def _check_network(file: Path, key: str, kinds: Any) -> None:
    if not isinstance(kinds, dict) or "float32" not in kinds or not set(kinds) <= set(_KINDS):
        raise UserError(f"{file}: {short(key)}: expected float32, and int8 if it was measured, got {short(kinds)}")
    for kind, batches in kinds.items():
        if not isinstance(batches, dict) or set(batches) != {str(batch) for batch in BATCHES}:
            raise UserError(f"{file}: {short(key)}: {kind}: expected the batches 1 and 32, got {short(batches)}")
        for batch, times in batches.items():
            valid = isinstance(times, list) and len(times) == 3 and all(type(time) in (int, float) for time in times)
            if not valid or not 0 < times[0] <= times[1] <= times[2] < math.inf:
                expected = "three ascending numbers of milliseconds"
                raise UserError(f"{file}: {short(key)}: {kind}: {batch}: expected {expected}, got {short(times)}")
