"""A run directory that version 0.1.0 made (tests/data/README.md) opens and goes on."""

import shutil
from pathlib import Path

import pytest
import yaml

from mgnas.search.storage.journal import Journal
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.storage.sqlite_trial_store import SqliteTrialStore
from mgnas.search.trial_record import GaussianPrediction, TrialRecord, TrialState

OLD_RUN = Path(__file__).parents[1] / "data" / "run-0.1.0"
RUNNING, PAUSED, COMPLETE = TrialState.RUNNING, TrialState.PAUSED, TrialState.COMPLETE
STATES = [COMPLETE] * 7 + [PAUSED, RUNNING, RUNNING]

# What `mgnas status` of version 0.1.0 printed.
STATUS = """\
7 of 14 trials complete, 2 running, 1 paused, 0 failed, 0:26 searched
Pareto front: 2 networks
          254 weights   33.33 %  trial 6    MgNet [4], nu=1, sharing A, depthwise transfers
          430 weights   73.33 %  trial 1    MgNet [4], nu=3, sharing AB, depthwise transfers
trial 7 at epoch 9: paused, 59.76 % +- 6.14 expected; trial 1 has 73.33 % with 430 weights
Nothing is searching there now; continue with: mgnas resume {run}
"""


@pytest.fixture
def old_run(tmp_path) -> Path:
    return Path(shutil.copytree(OLD_RUN, tmp_path / "tiny-1"))


def trials_of(run: Path) -> list[TrialRecord]:
    opened = RunDirectory(run)
    try:
        return opened.load()
    finally:
        opened.close()


def test_its_trials_are_read(old_run):
    trials = trials_of(old_run)
    assert [trial.state for trial in trials] == STATES
    assert [len(trial.curve) for trial in trials] == [16] * 7 + [9, 10, 0]
    assert trials[6].expected == GaussianPrediction(1.1715964423578105, 0.20232361851300393)
    assert [trial.seed for trial in trials] == list(range(10))


def test_its_journal_holds_the_same_trials_as_its_study(old_run):
    run = RunDirectory(old_run)
    journal = Journal(old_run / "journal.jsonl").read(run.space)
    # The journal has no epochs of trials that have neither ended nor paused.
    assert journal[:8] == run.load()[:8]
    assert [trial.state for trial in journal] == STATES
    run.close()


def test_a_damaged_study_is_rebuilt_from_its_journal(old_run):
    before = trials_of(old_run)
    (old_run / "study.db").write_bytes(b"damaged")
    with RunDirectory.open_for_resume(old_run) as run:
        assert run.load()[:8] == before[:8]
    rebuilt = SqliteTrialStore(old_run / "study.db", run.space)
    assert [trial.state for trial in rebuilt.load()] == STATES
    rebuilt.close()


def test_status_prints_what_it_printed_then(command, old_run):
    code, out, err = command("status", old_run)
    assert (code, err) == (0, "")
    assert out == STATUS.format(run=old_run)


def test_a_network_of_its_front_is_selected(command, old_run, tmp_path):
    code, _, err = command("select", old_run, "--prefer", "accuracy", "--output", tmp_path / "selected.yaml")
    assert code == 0, err
    selected = yaml.safe_load((tmp_path / "selected.yaml").read_text())
    assert selected["architecture"] == trials_of(old_run)[1].candidate.architecture.to_dict()


def test_its_report_is_written(command, old_run):
    code, _, err = command("report", old_run, "--latency-seconds", 0)
    assert code == 0, err
    page = (old_run / "report" / "report.html").read_text()
    assert "73.33" in page
    rows = (old_run / "report" / "front.csv").read_text().splitlines()
    assert len(rows) == 1 + 2


def test_it_goes_on_and_its_trials_stay(command, old_run, remember_latencies):
    before = trials_of(old_run)
    opened = RunDirectory(old_run)
    remember_latencies(opened)  # For the report at the end.
    opened.close()
    code, out, err = command("resume", old_run, "--trials", 11)
    assert code == 0, out + err
    after = trials_of(old_run)
    assert len(after) == 11
    assert after[:7] == before[:7]
    # What was running or paused has gone on from its checkpoint: no epoch was trained anew.
    for old, new in zip(before[7:], after[7:], strict=False):
        assert new.candidate == old.candidate
        assert new.curve[: len(old.curve)] == old.curve
    assert [trial.state for trial in after[8:]] == [COMPLETE] * 3 or PAUSED in [trial.state for trial in after[8:]]
    assert not any("checkpoint" in decision for trial in after for decision in trial.decisions)
    assert RunDirectory(old_run).elapsed > 25.943
