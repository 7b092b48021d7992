"""How far a full training is, as others read it."""

import pytest

from mgnas.reports.deploy.training_progress import (
    TrainingProgress,
    forget_progress,
    read_progress,
    write_progress,
)


def test_what_is_written_is_read_until_it_is_forgotten(tmp_path):
    assert read_progress(tmp_path) is None
    for epoch in (1, 12):
        progress = TrainingProgress(epoch=epoch, epochs=90, seconds=70.5 * epoch)
        write_progress(tmp_path, progress)
        assert read_progress(tmp_path) == progress
    assert len(list(tmp_path.iterdir())) == 1
    for _ in range(2):
        forget_progress(tmp_path)
        assert read_progress(tmp_path) is None


def test_the_rest_takes_as_long_an_epoch_as_what_is_done():
    progress = TrainingProgress(epoch=12, epochs=90, seconds=840.0)
    assert progress.seconds_left == pytest.approx(78 * 70)
    assert progress.in_words() == "epoch 12/90, about 1:31:00 left"
    assert TrainingProgress(epoch=90, epochs=90, seconds=6300.0).seconds_left == 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"epoch": 1}',
        '{"epoch": 0, "epochs": 3, "seconds": 1.0}',
        '{"epoch": 4, "epochs": 3, "seconds": 1.0}',
        '{"epoch": 1, "epochs": 3, "seconds": NaN}',
        '{"epoch": "1", "epochs": 3, "seconds": 1.0}',
    ],
)
def test_a_damaged_file_is_none(tmp_path, content):
    write_progress(tmp_path, TrainingProgress(epoch=1, epochs=3, seconds=1.0))
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert read_progress(tmp_path) is None
