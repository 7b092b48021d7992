"""A second record of every trial, from which a damaged study is rebuilt: a line of JSON for each start and each end.

Each line is written after the study and added at the end, so a crash costs at most the last line. When a search goes
on, the journal is written anew from the study; if the study is damaged, the study from the journal.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mgnas.errors import ConfigError, SearchStoppedError
from mgnas.files import parse_json, write_text

from ...space.search_space import SearchSpace
from ..optuna_schema import EXPECTED
from ..trial_record import ExpectedGain, GaussianPrediction, TrialRecord, TrialState


class Journal:
    """The journal of one run.

    Args:
        path: its file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, record: TrialRecord) -> None:
        """Add that a trial runs now, for the first time or again.

        Raises:
            SearchStoppedError: the file cannot be written.
        """
        self._append(_start(record))

    def end(self, record: TrialRecord) -> None:
        """Add the state of a trial that has ended or is paused.

        Raises:
            SearchStoppedError: the file cannot be written.
        """
        self._append(_end(record))

    def rewrite(self, records: Iterable[TrialRecord]) -> None:
        """Replace the whole journal, atomically.

        Raises:
            UserError: the file cannot be written.
        """
        entries = []
        for record in records:
            entries.append(_start(record))
            if record.state is not TrialState.RUNNING:
                entries.append(_end(record))
        write_text(self.path, "".join(_line(entry) for entry in entries))

    def read(self, space: SearchSpace) -> list[TrialRecord]:
        """The trials from number 0 to the first one that is missing; those without an end are RUNNING.

        A line that is damaged or was cut short is skipped; its trial is then in the state that its other lines tell.

        Args:
            space: gives candidates back from their values.
        """
        records: dict[int, TrialRecord] = {}
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                entry = parse_json(line)
                if entry["event"] == "start":
                    _read_start(entry, records, space)
                else:
                    _read_end(entry, records[entry["number"]])
            except (ValueError, LookupError, TypeError, ConfigError):
                continue
        return [records[number] for number in itertools.takewhile(records.__contains__, itertools.count())]

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SearchStoppedError(f"{self.path}: cannot be written ({error.strerror})") from None


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"


def _start(record: TrialRecord) -> dict[str, Any]:
    expected = {EXPECTED: [record.expected.mean, record.expected.std]} if record.expected else {}
    return {
        "event": "start",
        "number": record.number,
        "values": record.candidate.params,
        "seed": record.seed,
        "notes": record.sampler_notes | expected,
    }


def _end(record: TrialRecord) -> dict[str, Any]:
    return {
        "event": "end",
        "number": record.number,
        "state": record.state.value,
        "curve": record.curve,
        "reason": record.reason,
        "seconds": record.seconds,
        "finished": record.finished,
        "decisions": record.decisions,
        "balanced_accuracy": record.balanced_accuracy,
        "gain": None if record.gain is None else [record.gain.trials, record.gain.share],
    }


def _read_start(entry: dict[str, Any], records: dict[int, TrialRecord], space: SearchSpace) -> None:
    number = entry["number"]
    if number in records:  # It was paused or interrupted, and went on.
        records[number].state = TrialState.RUNNING
        return
    notes = dict(entry["notes"])
    expected = notes.pop(EXPECTED, None)
    record = TrialRecord(number, space.build(entry["values"]), int(entry["seed"]), sampler_notes=notes)
    record.expected = expected and GaussianPrediction(*expected)
    records[number] = record


def _read_end(entry: dict[str, Any], record: TrialRecord) -> None:
    state, curve = TrialState(entry["state"]), [float(accuracy) for accuracy in entry["curve"]]
    reason, seconds, finished = str(entry["reason"]), float(entry["seconds"]), entry["finished"]
    decisions, balanced = [str(decision) for decision in entry["decisions"]], entry.get("balanced_accuracy")
    balanced = None if balanced is None else float(balanced)  # Version 0.1.0 did not measure it.
    gain = entry.get("gain")
    gain = None if gain is None else ExpectedGain(int(gain[0]), float(gain[1]))
    # Nothing is taken over before all of the line has been understood.
    record.state, record.curve, record.reason = state, curve, reason
    record.seconds, record.finished, record.decisions, record.balanced_accuracy = seconds, finished, decisions, balanced
    record.gain = gain
