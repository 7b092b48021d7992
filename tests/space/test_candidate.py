"""The training recipe's settings."""

import pytest

from mgnas.errors import ConfigError
from mgnas.settings import build
from mgnas.space import TrainingSettings


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 2.0}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": "0.1"}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": float("nan")}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"label_smoothing": float("nan")}, "label_smoothing"),
        ({"gradient_clip": -1.0}, "gradient_clip"),
        ({"crop_padding": 1.5}, "crop_padding"),
        ({"flip": 1}, "flip"),
        ({"warmup_epochs": 5.0, "epochs": 4}, "warmup_epochs"),
        ({"weigth_decay": 1e-4}, "weigth_decay"),
    ],
)
def test_bad_values_are_refused_by_name(values, key):
    with pytest.raises(ConfigError) as caught:
        build(TrainingSettings, values)
    assert caught.value.key == key
    assert len(str(caught.value).splitlines()) == 1


def test_the_warm_up_may_take_all_epochs():
    assert TrainingSettings(epochs=4, warmup_epochs=4.0).warmup_epochs == 4
