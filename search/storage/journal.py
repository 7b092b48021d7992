"""A second record of every trial, a line of JSON for its start and its end: what a damaged study is rebuilt from.

It is written after the study and only ever added to, so whatever happens to it costs at most its last line. When a
search is taken up again it is written anew from the study, or the study from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mgnas.errors import ConfigError, SearchStoppedError
from mgnas.files import write_text

from ...space.search_space import SearchSpace
from ..optuna_schema import EXPECTED
from ..trial_record import GaussianPrediction, TrialRecord, TrialState


class Journal:
    """The journal of one run.

    Args:
        path: its file; need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, record: TrialRecord) -> None:
        """Note a trial that has been handed out, for the first time or again.

        Raises:
            SearchStoppedError: the file cannot be written.
        """
        self._append(_start(record))

    def end(self, record: TrialRecord) -> None:
        """Note how a trial stands now that it has ended or rests.

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
        """All trials that the journal knows without a gap from number 0; those without an end are RUNNING.

        Args:
            space: gives candidates back from their values.
        """
        known: dict[int, TrialRecord] = {}
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["event"] == "start":
                    _read_start(entry, known, space)
                else:
                    _read_end(entry, known[entry["number"]])
            except (ValueError, KeyError, TypeError, ConfigError):
                continue  # A line that was cut short, or damaged; the trial is then as far as the others say.
        records = []
        while len(records) in known:
            records.append(known[len(records)])
        return records

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
    }


def _read_start(entry: dict[str, Any], known: dict[int, TrialRecord], space: SearchSpace) -> None:
    number = entry["number"]
    if number in known:  # A paused trial that was taken up again.
        known[number].state = TrialState.RUNNING
        return
    candidate = space.build(entry["values"])
    notes = dict(entry["notes"])
    expected = notes.pop(EXPECTED, None)
    known[number] = TrialRecord(number, candidate, int(entry["seed"]), sampler_notes=notes)
    known[number].expected = expected and GaussianPrediction(*expected)


def _read_end(entry: dict[str, Any], record: TrialRecord) -> None:
    record.state = TrialState(entry["state"])
    record.curve, record.reason = [float(accuracy) for accuracy in entry["curve"]], str(entry["reason"])
    record.seconds, record.finished = float(entry["seconds"]), entry["finished"]
    record.decisions = [str(decision) for decision in entry["decisions"]]
