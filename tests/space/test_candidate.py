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
        ({"augmentation": "randaugment"}, "augmentation"),
        ({"augmentation": None}, "augmentation"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"optimizer": "adamw"}, "learning_rate"),
        ({"mixup": -0.1}, "mixup"),
        ({"mixup": float("nan")}, "mixup"),
        ({"cutmix": 101.0}, "cutmix"),
        ({"random_resized_crop": 1.1}, "random_resized_crop"),
        ({"random_resized_crop": 0.3, "crop_padding": 4}, "random_resized_crop"),
    ],
)
def test_bad_values_are_refused_by_name(values, key):
    with pytest.raises(ConfigError) as caught:
        build(TrainingSettings, values)
    assert caught.value.key == key
    assert len(str(caught.value).splitlines()) == 1


def test_the_warm_up_may_take_all_epochs():
    assert TrainingSettings(epochs=4, warmup_epochs=4.0).warmup_epochs == 4


def test_adamw_with_the_rate_of_sgd_is_refused_with_a_better_one(refusal):
    message = refusal(lambda: build(TrainingSettings, {"optimizer": "adamw"}))
    assert "learning_rate: 0.1 is a rate for sgd; adamw needs one of about 0.003" in message
    assert TrainingSettings(optimizer="adamw", learning_rate=0.003).learning_rate == 0.003


def test_settings_that_came_later_are_off_by_default():
    recipe = TrainingSettings()
    assert (recipe.optimizer, recipe.augmentation) == ("sgd", "none")
    assert (recipe.mixup, recipe.cutmix, recipe.random_resized_crop) == (0, 0, 0)
