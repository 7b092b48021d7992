"""The run directory: made whole or not at all, and read back as it was written."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from mgnas.errors import SearchStoppedError
from mgnas.files import read_yaml
from mgnas.search.config import SearchConfig
from mgnas.search.storage.journal import Journal
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import TrialRecord, TrialState


@pytest.fixture
def runs(tmp_path):
    """Folder of the run directories; not there yet."""
    return tmp_path / "some" / "runs"


@pytest.fixture
def config(small_search) -> SearchConfig:
    return small_search()


@pytest.fixture
def run(runs, config) -> RunDirectory:
    return RunDirectory.create(config, runs)


def same_search(first: SearchConfig, second: SearchConfig) -> bool:
    """Equal but for the file that they were read from."""
    return dataclasses.replace(first, file="") == dataclasses.replace(second, file="")


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -------------------------------------------------------------------------------------------------------------- create


def test_a_new_run_has_its_config_its_study_and_no_trials(run, runs, config):
    assert run.path == runs / "small-1"
    assert names(runs) == ["small-1"]
    assert names(run.path) == ["config.yaml", "run.json", "study.db", "trials"]
    assert run.load() == []
    assert run.elapsed == 0
    assert same_search(run.config, config)


def test_the_config_is_read_back_equal(runs, search_file):
    written = SearchConfig.load(
        search_file(
            name="full",
            data={"name": "digits", "validation_fraction": 0.3, "split_seed": 7, "train_images": 500},
            space={
                "fixed": {"family": "mgiad", "fully_coupled_channels": 2},
                "parameters": {
                    "base_channels": [[4], [4, 8]],
                    "channel_scaling": [1, 1.5, 2],
                    "smoothing_steps": {"low": 1, "high": 3},
                    "learning_rate": {"low": 1e-3, "high": 0.3, "log": True},
                    "channel_levels": [None, 2],
                },
                "limits": {"max_weights": "20k", "min_weights": 100},
            },
            training={"epochs": 3, "weight_decay": 1e-5, "crop_padding": 1, "flip": True},
            search={"sampler": "gp", "trials": 7, "seed": 11},
            resources={"workers": 2, "gpus_per_trial": 0.25},
            final_training={"epochs": 30, "label_smoothing": 0.1},
        )
    )
    run = RunDirectory.create(written, runs)
    assert same_search(RunDirectory(run.path).config, written)
    assert run.config.file == str(run.path / "config.yaml")


def test_the_written_config_names_every_default(run):
    content = read_yaml(run.path / "config.yaml")
    defaults = {"seed": 0, "prior": "none", "stopping": "none", "until": None, "focus": None}
    assert content["search"] == {"sampler": "random", "trials": 3, "loggers": ["tensorboard"]} | defaults
    assert content["training"]["momentum"] == 0.9
    assert content["data"]["validation_fraction"] == 0.2


def test_runs_are_numbered_freely(runs, config):
    assert [RunDirectory.create(config, runs).path.name for _ in range(3)] == ["small-1", "small-2", "small-3"]
    (runs / "small-2").rename(runs / "elsewhere")
    assert RunDirectory.create(config, runs).path.name == "small-2"
    assert RunDirectory.create(config, runs).path.name == "small-4"


def test_a_file_takes_a_number_too(runs, config):
    runs.mkdir(parents=True)
    (runs / "small-1").write_text("")
    assert RunDirectory.create(config, runs).path.name == "small-2"


CREATOR = """
import sys, time
from mgnas.search.config import SearchConfig
from mgnas.search.storage.run_directory import RunDirectory
config = SearchConfig.load(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(3):
    print(RunDirectory.create(config, sys.argv[2]).path.name, flush=True)
"""


def test_searches_that_start_at_once_without_a_name_have_a_number_each(runs, search_file):
    command = [sys.executable, "-c", CREATOR, str(search_file()), str(runs)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    made = [name for process in processes for name in process.communicate(timeout=120)[0].split()]
    assert sorted(made) == names(runs) == sorted(f"small-{number}" for number in range(1, 13))


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o077, 0o700, 0o600), (0o022, 0o755, 0o644)])
def test_the_umask_decides_who_may_read_a_run(runs, config, umask, folder, file):
    before = os.umask(umask)
    try:
        run = RunDirectory.create(config, runs)
        run.elapsed = 1.0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [run.path, *run.path.iterdir()]}
    folders = {"small-1": folder, "trials": folder}
    assert modes == folders | dict.fromkeys(["config.yaml", "run.json", "study.db", "clock.json"], file)


def test_a_name_of_its_own(runs, config):
    assert RunDirectory.create(config, runs, "mine").path == runs / "mine"


def test_a_taken_name_is_refused_and_left_as_it_is(runs, config, refusal):
    run = RunDirectory.create(config, runs, "mine")
    study = (run.path / "study.db").read_bytes()
    message = refusal(lambda: RunDirectory.create(config, runs, "mine"))
    assert message.startswith(f"{runs / 'mine'}: exists already")
    assert f"mgnas resume {runs / 'mine'}" in message
    assert names(runs) == ["mine"]
    assert (run.path / "study.db").read_bytes() == study


def test_an_empty_folder_of_the_name_is_not_overwritten(runs, config, refusal):
    (runs / "mine").mkdir(parents=True)
    refusal(lambda: RunDirectory.create(config, runs, "mine"))
    assert names(runs) == ["mine"]
    assert names(runs / "mine") == []


@pytest.mark.parametrize("below", [[], ["runs"], ["a", "b"]])
def test_a_parent_that_cannot_be_written_is_refused(tmp_path, config, refusal, below):
    # A file in the folder's place stops everybody; permissions would not stop root.
    (tmp_path / "file").write_text("content")
    parent = (tmp_path / "file").joinpath(*below)
    message = refusal(lambda: RunDirectory.create(config, parent))
    assert message.startswith(f"{parent}: cannot be written (")
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.parametrize("name", ["a/b", "../up", "..", ".", ".hidden"])
def test_a_name_that_is_no_plain_folder_name_is_refused(tmp_path, runs, config, refusal, name):
    refusal(lambda: RunDirectory.create(config, runs, name))
    assert list(tmp_path.rglob("config.yaml")) == []


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({"space": {"parameters": {"smoothing_steps": [0, 1]}}}, id="impossible space"),
        pytest.param({"data": {"name": "npz", "path": "none.npz"}}, id="missing data"),
    ],
)
def test_a_failed_create_leaves_nothing_behind(runs, small_search, refusal, sections):
    config = small_search(**sections)
    refusal(lambda: RunDirectory.create(config, runs))
    assert not runs.exists() or names(runs) == []


@pytest.mark.parametrize("name", ["with space", "50%25", "a#b", "what?", "a&b=c", "é"])
def test_a_folders_name_may_have_any_characters(tmp_path, config, name):
    run = RunDirectory.create(config, tmp_path / name)
    assert names(run.path) == ["config.yaml", "run.json", "study.db", "trials"]
    assert RunDirectory(run.path).load() == []


# ---------------------------------------------------------------------------------------------------------------- open


def test_an_opened_run_has_its_trials(run):
    candidate = next(run.space.enumerate())
    record = TrialRecord(0, candidate, 3, TrialState.COMPLETE, [0.1, 0.5], seconds=2.0, finished=2.5)
    run.record_start(record)
    run.record_epoch(record)
    run.record_end(record)
    run.close()
    assert RunDirectory(run.path).load() == [record]


def test_a_relative_path_can_be_opened(run, monkeypatch):
    monkeypatch.chdir(run.path.parent)
    assert RunDirectory("small-1").load() == []
    assert RunDirectory("small-1").checkpoint(3) == run.path / "trials" / "00003.pt"


def test_a_missing_run_is_refused_with_those_that_are_there(runs, config, refusal):
    assert refusal(lambda: RunDirectory(runs / "small-1")) == f"{runs / 'small-1'}: no such run directory"
    for _ in range(2):
        RunDirectory.create(config, runs)
    message = refusal(lambda: RunDirectory(runs / "small-3"))
    assert message == f"{runs / 'small-3'}: no such run directory; in {runs} there are small-1, small-2"


def test_a_file_is_no_run(tmp_path, refusal):
    (tmp_path / "run").write_text("")
    assert "no such run directory" in refusal(lambda: RunDirectory(tmp_path / "run"))


@pytest.mark.parametrize("piece", ["config.yaml", "study.db"])
def test_a_run_with_a_missing_piece_is_refused(run, refusal, piece):
    (run.path / piece).unlink()
    message = refusal(lambda: RunDirectory(run.path))
    assert message.startswith(f"{run.path}: {piece} is missing")


@pytest.mark.parametrize("piece", ["config.yaml", "study.db"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b"{"])
def test_a_run_with_a_damaged_piece_is_refused(run, refusal, piece, content):
    (run.path / piece).write_bytes(content)
    assert refusal(lambda: RunDirectory(run.path)).startswith(f"{run.path / piece}")


def test_a_half_written_run_is_neither_opened_nor_offered_nor_in_the_way(runs, config, refusal):
    """What a process leaves that was killed while it made the run."""
    run = RunDirectory.create(config, runs)
    half = runs / ".new-abc"
    half.mkdir()
    (half / "config.yaml").write_text((run.path / "config.yaml").read_text())
    assert "study.db is missing" in refusal(lambda: RunDirectory(half))
    assert refusal(lambda: RunDirectory(runs / "other")).endswith("there are small-1")
    assert RunDirectory.create(config, runs).path.name == "small-2"


def test_what_a_killed_process_left_of_a_new_run_is_removed_by_the_next(runs, search_file):
    config_path = search_file()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(config_path), str(runs)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name[:9] for path in runs.iterdir()] == [".new-run-"]
    run = RunDirectory.create(SearchConfig.load(config_path), runs)
    assert list(runs.iterdir()) == [run.path]


KILLED = """
import os, signal, sys
from mgnas.search.config import SearchConfig
from mgnas.search.storage import run_directory
run_directory.RunMetadata.write = lambda self, folder: os.kill(os.getpid(), signal.SIGKILL)
run_directory.RunDirectory.create(SearchConfig.load(sys.argv[1]), sys.argv[2])
"""


# --------------------------------------------------------------------------------------------------- a trial's events


@pytest.fixture
def trial(run) -> TrialRecord:
    return TrialRecord(0, next(run.space.enumerate()), 3)


def as_others_see(run) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """The trials in the study and in the journal, read by another process."""
    return RunDirectory(run.path).load(), Journal(run.path / "journal.jsonl").read(run.space)


def test_study_and_journal_are_in_step_after_every_event(run, trial):
    run.record_start(trial)
    assert as_others_see(run) == ([trial], [trial])
    trial.curve, trial.seconds = [0.1], 1.0
    run.record_epoch(trial)
    assert RunDirectory(run.path).load()[0].curve == [0.1]
    trial.state, trial.decisions = TrialState.PAUSED, ["epoch 1: paused, told to"]
    run.record_pause(trial)
    assert as_others_see(run) == ([trial], [trial])
    trial.state = TrialState.RUNNING
    run.record_start(trial)
    assert as_others_see(run) == ([trial], [trial])
    trial.state, trial.curve, trial.finished = TrialState.COMPLETE, [0.1, 0.5], 7.25
    run.record_epoch(trial)
    run.record_end(trial)
    assert as_others_see(run) == ([trial], [trial])


def test_the_end_of_a_trial_sets_the_clock_and_deletes_its_checkpoints_alone(run, trial):
    run.record_start(trial)
    for number in (0, 1):
        for version in (run.checkpoint(number), run.checkpoint(number).with_suffix(".previous.pt")):
            version.write_bytes(b"progress")
    trial.state, trial.reason, trial.finished = TrialState.FAILED, "the worker died", 7.25
    run.record_end(trial)
    assert RunDirectory(run.path).elapsed == 7.25
    assert names(run.path / "trials") == ["00001.previous.pt", "00001.pt"]


def test_a_checkpoint_that_cannot_be_deleted_stops_nothing(run, trial, caplog):
    run.record_start(trial)
    run.checkpoint(0).mkdir()
    trial.state, trial.curve, trial.finished = TrialState.COMPLETE, [0.5], 7.25
    run.record_epoch(trial)
    run.record_end(trial)
    assert as_others_see(run) == ([trial], [trial])
    assert f"{run.checkpoint(0)}: cannot be deleted (" in caplog.text


def test_what_the_study_refuses_does_not_reach_the_journal(run, trial):
    run.record_start(trial)
    before = (run.path / "journal.jsonl").read_bytes()
    (run.path / "study.db").unlink()
    trial.state, trial.curve, trial.finished = TrialState.COMPLETE, [0.5], 7.25
    for record in (run.record_start, run.record_epoch, run.record_pause, run.record_end):
        with pytest.raises(SearchStoppedError, match=r"study.db: is no longer there"):
            record(trial)
    assert (run.path / "journal.jsonl").read_bytes() == before
    assert run.elapsed == 0


# --------------------------------------------------------------------------------------------------------------- state


def test_checkpoints_have_a_place_each_inside_the_run(run):
    assert run.checkpoint(7) == run.path / "trials" / "00007.pt"
    assert run.checkpoint(7).parent.is_dir()
    assert run.checkpoint(123456).name == "123456.pt"


def test_the_clock_is_kept(run):
    run.elapsed = 12.3456
    assert run.elapsed == 12.346
    assert RunDirectory(run.path).elapsed == 12.346
    assert json.loads((run.path / "clock.json").read_text()) == {"elapsed": 12.346}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"elapsed": null}', b'{"elapsed": "x"}', b"\xff\xfe"])
def test_a_damaged_clock_goes_on_from_the_last_trial(run, content, caplog):
    record = TrialRecord(0, next(run.space.enumerate()), 3, TrialState.COMPLETE, [0.1, 0.5], finished=2.5)
    run.record_start(record)
    run.record_epoch(record)
    run.record_end(record)
    (run.path / "clock.json").write_bytes(content)
    assert run.elapsed == 2.5
    assert f"{run.path / 'clock.json'}: is damaged" in caplog.text


def test_a_changed_config_is_stored(run):
    run.change_config(run.config.override(trials=9, workers=2))
    run.store_config()
    assert run.config.search.trials == 9
    again = RunDirectory(run.path).config
    assert (again.search.trials, again.resources.workers) == (9, 2)
    assert same_search(again, run.config)
    assert names(run.path) == ["config.yaml", "run.json", "study.db", "trials"]


@pytest.mark.parametrize(
    "name", ["report", "retrained", "trials", "study.db", "journal.jsonl", "latency.json", "clock.json"]
)
def test_a_link_in_a_received_run_is_refused(run, tmp_path, refusal, name):
    link, outside = run.path / name, tmp_path / "outside"
    if link.exists():
        link.rename(outside)
    else:
        outside.mkdir()
    link.symlink_to(outside)
    message = refusal(lambda: RunDirectory(run.path))
    assert message == f"{link}: is a link, which may lead out of the run; put what it leads to in its place"


def test_a_run_may_be_reached_by_a_link(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    assert RunDirectory(tmp_path / "link").id == run.id
