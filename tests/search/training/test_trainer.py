"""The recipe: schedule, augmentation, one step by hand, evaluation."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mgnas.models import build_model
from mgnas.search.data.dataset import DataSettings, ImageDataset, load_dataset
from mgnas.search.training.epoch_plan import draw_epoch
from mgnas.search.training.trainer import (
    Trainer,
    TrainingDivergedError,
    balanced_accuracy,
)
from mgnas.space import TrainingSettings

from .conftest import MODERN, curve, same, settings, state, train_to_the_end

# ------------------------------------------------------------------------------------------------------------- schedule


def test_the_last_steps_of_the_epochs_have_the_rates_of_the_schedule(start):
    trainer = start(settings(epochs=3, learning_rate=0.2, warmup_epochs=1.0))
    rates = []
    while not trainer.finished:
        trainer.run_epoch()
        rates += {float(group["lr"]) for group in trainer.optimizer.param_groups}
    assert rates == pytest.approx([0.2, 0.1, 0], abs=1e-15)


# --------------------------------------------------------------------------------------------------------- augmentation


def images_seen(trainer: Trainer) -> np.ndarray:
    """The images that the network is trained on in the next epoch, as uint8 n x c x h x w, in order."""
    seen = []
    hook = trainer.model.register_forward_pre_hook(
        lambda model, inputs: seen.append(inputs[0]) if model.training else None
    )
    trainer.run_epoch()
    hook.remove()
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in trainer.normalisation().values())
    return ((torch.cat(seen) * std + mean) * 255).round().to(torch.uint8).numpy()


def indices_in(images: np.ndarray, among: np.ndarray) -> list[int]:
    """Where each image stands among others that are all different."""
    known = {image.tobytes(): place for place, image in enumerate(among)}
    return [known[image.tobytes()] for image in images]


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own_and_of_the_seed(start, numbered, tiny):
    train = numbered([20, 20], channels=3)
    recipe, architecture = settings(batch_size=10, crop_padding=0, flip=False), tiny(num_classes=2, in_channels=3)
    first, other = (start(recipe, architecture, seed, train, evaluation=None) for seed in (1, 2))
    orders = [indices_in(images_seen(trainer), train.images) for trainer in (first, first, other, other)]
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert len(set(map(tuple, orders))) == 4


def test_images_beyond_the_last_whole_batch_are_left_for_other_epochs(start, numbered):
    train = numbered([20, 20])
    trainer = start(settings(batch_size=16, crop_padding=0, flip=False), train=train)
    seen = indices_in(images_seen(trainer), train.images)
    assert len(seen) == len(set(seen)) == 32


def test_flips_mirror_some_images_left_to_right(start, numbered):
    train = numbered([50, 50])
    trainer = start(settings(batch_size=100, crop_padding=0, flip=True), train=train)
    both = np.concatenate([train.images, train.images[:, :, :, ::-1]])
    seen = indices_in(images_seen(trainer), both)
    assert sorted(place % 100 for place in seen) == list(range(100))
    assert 30 < sum(place >= 100 for place in seen) < 70


def test_flips_take_turns_from_epoch_to_epoch(start, numbered):
    train = numbered([50, 50])
    trainer = start(settings(batch_size=100, crop_padding=0, flip=True), train=train)
    both = np.concatenate([train.images, train.images[:, :, :, ::-1]])
    views = [set(indices_in(images_seen(trainer), both)) for _ in range(3)]
    assert views[0] | views[1] == set(range(200))
    assert views[2] == views[0]


def test_evaluation_images_are_not_augmented(start, numbered):
    trainer, part, seen = start(settings(**MODERN)), numbered([20, 20]), []
    trainer.run_epoch()
    trainer.trained_model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]))
    trainer.evaluate(part)
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in trainer.normalisation().values())
    assert np.array_equal(((torch.cat(seen) * std + mean) * 255).round().numpy(), part.images)


# -------------------------------------------------------------------------------------------------------------- mixing


def test_the_loss_of_mixed_images_is_that_of_their_mixed_labels(start, numbered, tiny):
    """Against the cross-entropy with the labels written out as probabilities."""
    train, architecture = numbered([20, 20]), tiny(num_classes=2)
    recipe = settings(batch_size=40, crop_padding=0, flip=False, mixup=0.8, cutmix=1.0, label_smoothing=0.1)
    trainer, outputs = start(recipe, architecture, seed=7, train=train), []
    trainer.model.register_forward_hook(
        lambda model, inputs, logits: outputs.append((inputs[0].clone(), logits.detach())) if model.training else None
    )
    loss = trainer.run_epoch().loss
    ((images, logits),) = outputs

    plan = draw_epoch(recipe, trainer._coins, 8, seed=7, epoch=0)
    (choices,), (shares,) = plan.choices, plan.shares
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in trainer.normalisation().values())
    plain = (torch.from_numpy(train.images).float() / 255 - mean)[choices[0]] / std
    one_hot = F.one_hot(torch.from_numpy(train.labels)[choices[0]], 2).double()
    losses = []
    for number in range(40):
        top, bottom, left, right = choices[5:9, number].tolist()
        (kept, share), partner = shares[:, number].double(), (number - 1) % 40
        expected = plain[number].clone()
        mixed = kept * expected[:, top:bottom, left:right] + (1 - kept) * plain[partner, :, top:bottom, left:right]
        expected[:, top:bottom, left:right] = mixed.float()
        torch.testing.assert_close(images[number], expected, rtol=1e-4, atol=1e-4)
        label = 0.9 * (share * one_hot[number] + (1 - share) * one_hot[partner]) + 0.1 / 2
        losses.append(-(label * logits[number].double().log_softmax(0)).sum())
    assert loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert len(set(shares[0].tolist())) > 5


# ----------------------------------------------------------------------------------------------- average of the weights


def test_the_average_of_the_weights_follows_its_formula(start, tiny):
    recipe = settings(ema_decay=0.75, batch_size=40, epochs=3)
    averaged, plain = start(recipe), start(settings(batch_size=40, epochs=3))
    expected = None
    for _ in range(3):
        averaged.run_epoch()
        plain.run_epoch()  # One step: the average must not disturb the training.
        weight = plain.model.head.linear.weight.detach().clone()
        expected = weight if expected is None else 0.75 * expected + 0.25 * weight
    assert same(state(averaged), state(plain))
    torch.testing.assert_close(averaged.trained_model.head.linear.weight, expected)
    assert plain.trained_model is plain.model


def test_a_continued_average_equals_the_uninterrupted_one(start, tmp_path):
    recipe = settings(ema_decay=0.9, cutout=3)
    whole, first = train_to_the_end(start(recipe)), start(recipe)
    first.run_epoch()
    first.save(tmp_path / "run.pt")
    continued = start(recipe)
    continued.load(tmp_path / "run.pt")
    train_to_the_end(continued)
    assert same(dict(continued.trained_model.state_dict()), dict(whole.trained_model.state_dict()))
    assert curve(continued) == curve(whole)


# ------------------------------------------------------------------------------------------------------------- one step


def gradient_by_hand(recipe: TrainingSettings, train: ImageDataset, architecture, seed: int):
    """Initial parameters, their gradient on all images at once, and the loss."""
    torch.manual_seed(seed)
    model = build_model(architecture)
    pixels = train.images / 255.0
    mean, std = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3), ddof=1)
    inputs = (pixels - mean[:, None, None]) / std[:, None, None]
    loss = F.cross_entropy(
        model(torch.from_numpy(inputs).float()), torch.from_numpy(train.labels), label_smoothing=recipe.label_smoothing
    )
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    before = {name: parameter.detach() for name, parameter in parameters.items()}
    return before, dict(zip(before, gradients, strict=True)), loss.item()


def test_one_step_is_nesterovs_with_decay_of_the_matrices_only(start, numbered, tiny):
    train, architecture = numbered([20, 20]), tiny(num_classes=2)
    recipe = settings(
        epochs=2,
        batch_size=64,  # more than there are images: one step with all of them
        learning_rate=0.2,
        warmup_epochs=0.0,
        momentum=0.8,
        weight_decay=0.05,
        label_smoothing=0.1,
        gradient_clip=0.0,
        crop_padding=0,
        flip=False,
    )
    with torch.random.fork_rng():
        before, gradients, loss = gradient_by_hand(recipe, train, architecture, seed=7)
    trainer = start(recipe, architecture, seed=7, train=train)
    result = trainer.run_epoch()
    rate = 0.1  # half a cosine from 0.2, half-way
    for name, after in trainer.model.named_parameters():
        decay = 0.05 if before[name].ndim > 1 else 0.0
        step = rate * (1 + 0.8) * (gradients[name] + decay * before[name])
        torch.testing.assert_close(after.detach(), before[name] - step, rtol=1e-4, atol=1e-6)
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.epoch == 1


def test_one_step_of_adamw_is_its_formula_with_decay_of_the_matrices_only(start, numbered, tiny):
    train, architecture = numbered([20, 20]), tiny(num_classes=2)
    recipe = settings(
        epochs=2,
        batch_size=64,
        optimizer="adamw",
        learning_rate=0.02,
        warmup_epochs=0.0,
        weight_decay=0.5,
        gradient_clip=0.0,
        crop_padding=0,
        flip=False,
    )
    with torch.random.fork_rng():
        before, gradients, _ = gradient_by_hand(recipe, train, architecture, seed=7)
    trainer = start(recipe, architecture, seed=7, train=train)
    trainer.run_epoch()
    rate = 0.01  # half a cosine from 0.02, half-way
    for name, after in trainer.model.named_parameters():
        # After one step both means, divided by 1 minus their decays, are the gradient and its square.
        gradient, decay = gradients[name], 0.5 if before[name].ndim > 1 else 0.0
        expected = before[name] * (1 - rate * decay) - rate * gradient / (gradient.abs() + 1e-8)
        # The sign of a gradient that is nearly 0 is rounding.
        clear = gradient.abs() > 1e-5
        torch.testing.assert_close(after.detach()[clear], expected[clear], rtol=1e-4, atol=1e-5)
    assert {float(tensors["step"]) for tensors in trainer.optimizer.state.values()} == {1.0}


def test_clipping_limits_the_length_of_a_step(start):
    recipe = settings(
        epochs=2,
        batch_size=64,
        learning_rate=0.2,
        warmup_epochs=0.0,
        momentum=0.0,
        weight_decay=0.0,
        gradient_clip=1e-3,
    )
    trainer = start(recipe)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.run_epoch()
    moved = zip(trainer.model.parameters(), before, strict=True)
    squares = [(after.detach() - earlier).square().sum().item() for after, earlier in moved]
    assert math.sqrt(sum(squares)) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_normalisation_is_the_mean_and_deviation_of_each_channel(start, numbered, tiny):
    train = numbered([20, 20], channels=3)
    pixels = train.images / 255.0
    found = start(train=train, architecture=tiny(num_classes=2, in_channels=3)).normalisation()
    assert found["mean"] == pytest.approx(pixels.mean(axis=(0, 2, 3)), rel=1e-5)
    assert found["std"] == pytest.approx(pixels.std(axis=(0, 2, 3), ddof=1), rel=1e-5)


def test_black_images_train_to_finite_losses(start):
    black = ImageDataset(np.zeros((40, 1, 8, 8), np.uint8), np.repeat([0, 1], 20))
    trainer = train_to_the_end(start(train=black, evaluation=black))
    assert all(math.isfinite(result.loss) for result in trainer.history)
    assert trainer.history[-1].accuracy == 0.5


# ----------------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_counts_the_images_classified_correctly(start, numbered):
    trainer = train_to_the_end(start())
    part = numbered([700, 700])  # more than one batch of evaluation
    normalisation = trainer.normalisation()
    inputs = (torch.from_numpy(part.images).float() / 255 - normalisation["mean"][0]) / normalisation["std"][0]
    with torch.no_grad():
        predicted = trainer.model.eval()(inputs).argmax(dim=1).numpy()
    assert trainer.evaluate(part) == sum(predicted == part.labels) / 1400
    assert 0 < trainer.evaluate(part) < 1
    hits = np.bincount(part.labels, predicted == part.labels, minlength=trainer.architecture.num_classes)
    assert trainer.evaluate_by_class(part).tolist() == hits.tolist()


def test_evaluation_changes_nothing(start, numbered):
    trainer = start()
    trainer.run_epoch()
    before = state(trainer)
    trainer.evaluate(numbered([30, 30]))
    assert same(state(trainer), before)


def test_an_epochs_accuracy_is_that_of_the_evaluation_images(start, numbered):
    evaluation = numbered([9, 9])
    trainer = start(evaluation=evaluation)
    assert trainer.run_epoch().accuracy == trainer.evaluate(evaluation)


def test_the_balanced_accuracy_is_the_mean_over_the_classes_that_have_images():
    labels = np.array([0, 0, 0, 0, 2])
    assert balanced_accuracy(np.array([4, 0, 0]), labels) == 0.5
    assert balanced_accuracy(np.array([1, 0, 1]), labels) == 0.625
    assert balanced_accuracy(np.array([4, 0, 1]), labels) == 1.0


def test_an_epochs_balanced_accuracy_shows_an_answer_that_is_always_the_same(start, numbered):
    trainer = start(evaluation=numbered([990, 10]))
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    trainer._train_epoch = lambda: 1.0
    result = trainer.run_epoch()
    assert (result.accuracy, result.balanced_accuracy) == (0.99, 0.5)


def test_without_evaluation_images_no_accuracy_is_measured_and_training_is_the_same(start):
    blind, seeing = train_to_the_end(start(evaluation=None)), train_to_the_end(start())
    assert [result.accuracy for result in blind.history] == [None] * 4
    assert same(state(blind), state(seeing))


# ------------------------------------------------------------------------------------------------------------- learning


def test_a_trainer_is_finished_after_its_epochs(start):
    trainer = start(settings(epochs=2))
    assert not trainer.finished
    trainer.run_epoch()
    assert not trainer.finished
    trainer.run_epoch()
    assert trainer.finished
    assert [result.epoch for result in trainer.history] == [1, 2]
    assert all(result.seconds > 0 for result in trainer.history)


def test_a_loss_that_is_not_finite_is_divergence(start):
    trainer = start(settings(epochs=30, learning_rate=1e6, gradient_clip=0.0, warmup_epochs=0.0))
    with pytest.raises(TrainingDivergedError) as caught:
        train_to_the_end(trainer)
    assert str(caught.value).endswith(f"in epoch {len(trainer.history) + 1}")
    assert all(math.isfinite(result.loss) for result in trainer.history)


def test_a_small_network_learns_the_digits(tiny):
    data = load_dataset(DataSettings(name="digits"))
    recipe = TrainingSettings(epochs=5, batch_size=32, learning_rate=0.1)
    architecture = tiny(base_channels=(8, 16), smoothing_steps=2)
    trainer = train_to_the_end(Trainer(architecture, recipe, data.train, data.validation))
    assert trainer.history[-1].accuracy > 0.9
    assert trainer.evaluate(data.test) > 0.9
    assert trainer.history[-1].loss < trainer.history[0].loss
