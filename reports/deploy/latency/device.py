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
from .meter import LatencyMeter
from .untrained import network_key

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
        self._runtime = f"{threads} of {content['processor']}, ONNX Runtime {content['onnxruntime']}"
        self.machine = self._machine("float32")
        self._times: dict[str, dict[str, dict[str, list[float]]]] = content["networks"]
        self._candidates = {network_key(c): c for c in candidates if network_key(c) in self._times}
        self._fitted: dict[tuple[int, str], FittedLatency] = {}

    def quartiles(self, candidate: Candidate, kind: str = "float32", batch: int = 1) -> list[float] | None:
        """Lower quartile, median and upper quartile of the milliseconds; None: not measured."""
        return self._times.get(network_key(candidate), {}).get(kind, {}).get(str(batch))

    def latencies(self, candidate: Candidate) -> dict[int, float]:
        """Batch -> milliseconds in float32, measured or predicted.

        Raises:
            UserError: it was not measured, and too few others were.
        """
        return self._latencies_of(candidate, "float32")

    def int8_latencies(self, candidate: Candidate) -> dict[int, float]:
        """Batch -> milliseconds in int8, measured or predicted.

        Raises:
            UserError: it was not measured, and too few others were.
        """
        return self._latencies_of(candidate, "int8")

    def _latencies_of(self, candidate: Candidate, kind: str) -> dict[int, float]:
        measured = {batch: self.quartiles(candidate, kind, batch) for batch in BATCHES}
        return {
            batch: times[1] if times else self.fitted(batch, kind).model.milliseconds(candidate.cost)
            for batch, times in measured.items()
        }

    def fitted(self, batch: int = 1, kind: str = "float32") -> FittedLatency:
        """The model of the milliseconds for `batch` images.

        Raises:
            UserError: too few networks were measured.
        """
        if (batch, kind) not in self._fitted:
            times = {key: self.quartiles(one, kind, batch) for key, one in self._candidates.items()}
            known = {key: quartiles[1] for key, quartiles in times.items() if quartiles}
            if len(known) < MIN_NETWORKS:
                problem = f"{len(known)} networks measured in {kind} are too few to predict others"
                raise UserError(f"device {self.name}: {problem}; a new kit has at least {MIN_NETWORKS}")
            costs = [self._candidates[key].cost for key in known]
            self._fitted[batch, kind] = fit_with_error(costs, list(known.values()))
        return self._fitted[batch, kind]

    @property
    def predicts(self) -> bool:
        """Whether enough networks were measured to predict others in float32."""
        return len(self._candidates) >= MIN_NETWORKS

    def in_words(self, candidate: Candidate) -> str:
        """The latency for one image, and where it comes from."""
        return self._in_words(candidate, "float32")

    def int8_in_words(self, candidate: Candidate) -> str:
        """As `in_words`, of the int8 network."""
        return self._in_words(candidate, "int8")

    def _in_words(self, candidate: Candidate, kind: str) -> str:
        origin = "measured"
        if self.quartiles(candidate, kind) is None:
            fitted = self.fitted(kind=kind)
            origin = f"predicted from {fitted.networks} networks with a median error of {100 * fitted.error:.0f} %"
        return f"{self._latencies_of(candidate, kind)[1]:.4g} ms for 1 image on {self._machine(kind)}, {origin}"

    def _machine(self, kind: str) -> str:
        return f"{self.name} ({self._runtime}, {kind})"


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
