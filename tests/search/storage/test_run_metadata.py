"""run.json, and what it guards: settings and images that may not change while a run's trials are compared."""

import json
import stat

import pytest

from mgnas.search.config import SearchConfig
from mgnas.search.storage.run_metadata import RunMetadata, first_change, training_fingerprint

ADDRESS = "postgresql://user@host/database"


@pytest.fixture
def config(small_search) -> SearchConfig:
    return small_search(resources={"gpus_per_trial": 0})


def test_metadata_come_back_equal(tmp_path, config):
    written = RunMetadata(study=ADDRESS, study_name="small-1", trained_with=training_fingerprint(config), images="0123")
    written.largest_class = ("cat", 0.99)
    written.validation_images = 287
    written.write(tmp_path)
    assert RunMetadata.read(tmp_path) == written


def test_every_run_has_an_id_of_its_own():
    assert RunMetadata().id != RunMetadata().id


@pytest.mark.parametrize(
    ("study", "mode"), [(None, 0o644), (ADDRESS, 0o644), ("postgresql://user:secret@host/database", 0o600)]
)
def test_a_password_is_readable_by_its_owner_alone(tmp_path, study, mode):
    RunMetadata(study=study).write(tmp_path)
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == mode


def test_a_run_without_the_file_gets_a_new_id(tmp_path, caplog):
    read = RunMetadata.read(tmp_path)
    assert (read.study, read.trained_with, read.images) == (None, None, None)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"id": 5}',
        b'{"id": "../x"}',
        b'{"colour": 1}',
        b'{"largest_class": 1}',
        b'{"validation_images": 0}',
        b'{"validation_images": "many"}',
        b'{"trained_with": {}}',
        b"\xff",
    ],
)
def test_a_damaged_file_is_made_anew_with_a_warning(tmp_path, caplog, content):
    (tmp_path / "run.json").write_bytes(content)
    assert RunMetadata.read(tmp_path).trained_with is None
    assert f"{tmp_path / 'run.json'}: is damaged and will be made anew" in caplog.text


# ------------------------------------------------------------------------------------------------------------- settings


def test_the_fingerprint_survives_json(config):
    fingerprint = training_fingerprint(config)
    assert json.loads(json.dumps(fingerprint)) == fingerprint


@pytest.mark.parametrize(
    "changes",
    [{"trials": 99}, {"workers": 7}, {"time_limit": 5.0}, {"storage": "/somewhere"}, {"path": None}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_trials_do_not_depend_on_may_change(config, changes):
    metadata = RunMetadata(trained_with=training_fingerprint(config))
    metadata.check_fingerprint(config.override(**changes))


@pytest.mark.parametrize(
    ("sections", "key", "before", "after"),
    [
        ({"training": {"epochs": 5, "batch_size": 256}}, "training.epochs", 2, 5),
        ({"search": {"sampler": "random", "trials": 3, "seed": 4}}, "search.seed", 0, 4),
        ({"data": {"name": "digits", "train_images": 100}}, "data.train_images", None, 100),
        ({"resources": {"gpus_per_trial": 0.5}}, "resources.gpu", False, True),
    ],
)
def test_what_trials_depend_on_is_refused_by_its_key(config, small_search, refusal, sections, key, before, after):
    metadata = RunMetadata(trained_with=training_fingerprint(config))
    message = refusal(lambda: metadata.check_fingerprint(small_search(**sections)))
    assert f"{key} was {before!r} for this run's trials and is {after!r} now" in message.replace(": was", " was")


LATER_SETTINGS = ("optimizer", "augmentation", "random_resized_crop", "mixup", "cutmix")


def test_a_run_of_a_version_with_fewer_training_settings_goes_on(config):
    earlier = training_fingerprint(config)
    for name in LATER_SETTINGS:
        del earlier["training"][name]
    metadata = RunMetadata(trained_with=earlier)
    metadata.check_fingerprint(config)
    assert metadata.trained_with == training_fingerprint(config)


def test_a_training_setting_that_came_later_may_not_be_switched_on(config, small_search, refusal):
    earlier = training_fingerprint(config)
    for name in LATER_SETTINGS:
        del earlier["training"][name]
    changed = small_search(training={"epochs": 2, "batch_size": 256, "mixup": 0.2})
    message = refusal(lambda: RunMetadata(trained_with=earlier).check_fingerprint(changed))
    assert "training.mixup: was 0.0 for this run's trials and is 0.2 now" in message


def with_gpus(small_search, gpus) -> SearchConfig:
    return small_search(resources={} if gpus is None else {"gpus_per_trial": gpus})


@pytest.mark.parametrize(("before", "now"), [("auto", 0.5), ("auto", 0), (0.5, "auto"), (0, "auto"), (0.5, 1), (0, 0)])
def test_auto_contradicts_neither_gpus_nor_cpus_and_what_was_decided_stays(small_search, before, now):
    metadata = RunMetadata(trained_with=training_fingerprint(with_gpus(small_search, before)))
    metadata.check_fingerprint(with_gpus(small_search, now))
    decided = before if before != "auto" else now
    assert metadata.trained_on_gpus is (decided > 0)


@pytest.mark.parametrize(("before", "now"), [(0.25, 0), (0, 1)])
def test_another_kind_of_device_is_refused_with_the_option_that_forces_it(small_search, refusal, before, now):
    metadata = RunMetadata(trained_with=training_fingerprint(with_gpus(small_search, before)))
    message = refusal(lambda: metadata.check_fingerprint(with_gpus(small_search, now)))
    assert f"resources.gpu: was {before > 0} for this run's trials and is {now > 0} now" in message
    assert message.endswith(", or force it with --gpus-per-trial")
    assert metadata.trained_on_gpus is (before > 0)


def test_a_run_whose_trials_have_no_device_yet_knows_none(small_search):
    assert RunMetadata().trained_on_gpus is None
    assert RunMetadata(trained_with=training_fingerprint(with_gpus(small_search, None))).trained_on_gpus is None


def test_a_run_without_a_fingerprint_takes_that_of_its_config(config):
    metadata = RunMetadata()
    metadata.check_fingerprint(config)
    assert metadata.trained_with == training_fingerprint(config)


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ({}, {}, None),
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, None),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ("a.c", 2, 3)),
        ({"a": 1}, {}, ("a", 1, None)),
        ({}, {"a": {"b": 1}}, ("a", None, {"b": 1})),
        ({"a": [1]}, {"a": [1, 2]}, ("a", [1], [1, 2])),
    ],
)
def test_the_first_change_is_found(before, now, change):
    assert first_change(before, now) == change


# --------------------------------------------------------------------------------------------------------------- images


def test_other_images_are_refused(refusal):
    metadata = RunMetadata()
    metadata.check_images("0123", "small.yaml")
    metadata.check_images("0123", "small.yaml")
    message = refusal(lambda: metadata.check_images("4567", "small.yaml"))
    assert message.startswith("small.yaml: data.path: the images are not those that this run's trials learned from")


def test_the_digest_of_version_0_1_0_is_accepted_once_and_replaced(refusal):
    metadata = RunMetadata(images="of 0.1.0")
    metadata.check_images("0123", "small.yaml", former="of 0.1.0")
    assert metadata.images == "0123"
    refusal(lambda: metadata.check_images("4567", "small.yaml", former="of 0.1.0"))
