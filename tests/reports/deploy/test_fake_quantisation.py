import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mgnas
from mgnas.models.layers import BatchNorm, Convolution
from mgnas.reports.deploy.fake_quantisation import FakeQuantisation, fine_tune, rounded_activations, rounded_weights
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.space.candidate import TrainingSettings


def test_weights_lie_on_a_grid_of_255_values_per_output_channel():
    weights = torch.tensor([[-2.54, 0.031, 1.0], [0.127, 0.0004, 0.0006]]).reshape(2, 3, 1, 1)
    expected = torch.tensor([[-2.54, 0.04, 1.0], [0.127, 0.0, 0.001]]).reshape(2, 3, 1, 1)
    torch.testing.assert_close(rounded_weights(weights), expected)


def test_activations_lie_on_a_grid_of_256_values_with_0_on_it():
    torch.testing.assert_close(rounded_activations(torch.tensor([1.0, 2.55, 0.004])), torch.tensor([1.0, 2.55, 0.0]))
    torch.testing.assert_close(rounded_activations(torch.tensor([-1.0, 1.55, 0.126])), torch.tensor([-1.0, 1.55, 0.13]))
    assert rounded_activations(torch.zeros(3)).equal(torch.zeros(3))


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), st.integers(0, 1000))
def test_scaling_channels_and_rounding_can_be_exchanged(scales, seed):
    """So it does not matter whether a batch norm is folded before weights are rounded."""
    weights = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()
    factors = torch.tensor(scales).reshape(3, 1, 1, 1)
    steps = factors * weights.abs().flatten(1).amax(1).reshape(3, 1, 1, 1) / 127
    difference = (rounded_weights(weights * factors) - rounded_weights(weights) * factors).abs() / steps
    assert ((difference < 1e-2) | ((difference - 1).abs() < 1e-2)).all()  # One step where rounding is a tie.
    assert (difference > 0.5).float().mean() <= 0.1


def test_a_batch_norm_after_a_convolution_is_folded_and_another_one_rounds_its_input():
    torch.manual_seed(0)
    convolution, norm = Convolution(2, 3).eval(), BatchNorm(3).eval()
    images = torch.rand(4, 2, 5, 5)
    with torch.no_grad():
        with FakeQuantisation():
            folded, later = norm(convolution(images)), norm(convolution(images) * 1.0)
        plain = nn.functional.conv2d(rounded_activations(images), rounded_weights(convolution.weight), padding=1)
        torch.testing.assert_close(folded, norm(plain))
        torch.testing.assert_close(later, norm(rounded_activations(plain)))
        assert not folded.equal(later)


def test_gradients_pass_through_the_rounding():
    convolution = Convolution(2, 3)
    images = torch.rand(4, 2, 5, 5, requires_grad=True)
    with FakeQuantisation():
        convolution(images).sum().backward()
    expected = torch.autograd.grad(
        nn.functional.conv2d(images, rounded_weights(convolution.weight), padding=1).sum(), images
    )
    torch.testing.assert_close(images.grad, expected[0])
    assert convolution.weight.grad.abs().sum() > 0


def test_outside_of_the_context_nothing_is_rounded(folder, images):
    model, batch = mgnas.load(folder), torch.from_numpy(images)
    with torch.inference_mode():
        before = model(batch)
        with FakeQuantisation():
            rounded = model(batch)
        assert model(batch).equal(before)
    assert not rounded.equal(before)
    assert (rounded - before).abs().max() < 0.2 * before.abs().max()


def test_fine_tuning_repairs_what_rounding_breaks_and_leaves_the_network_alone(folder):
    """One channel's activations are 300 times as large as the others', which leaves the others no grid."""
    model = mgnas.load(folder)
    digits = load_dataset(DataSettings(name="digits"))
    stem = model.network.stem
    with torch.no_grad():  # ReLU keeps positive factors, so only the first smoothing step sees the difference.
        stem[1].weight[0] *= 300
        stem[1].bias[0] *= 300
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned, _ = fine_tune(model, TrainingSettings(epochs=1, learning_rate=0.1), digits.train)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())

    def loss_of(network):
        images, labels = torch.from_numpy(digits.train.images), torch.from_numpy(digits.train.labels)
        with torch.inference_mode(), FakeQuantisation():
            return float(nn.functional.cross_entropy(network(images), labels))

    assert loss_of(tuned) < loss_of(model)
    assert tuned.metadata() == model.metadata()
    assert not tuned.training


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_recipes_that_warm_up_longer_than_the_fine_tuning_lasts_are_taken(folder, optimizer):
    digits = load_dataset(DataSettings(name="digits"))
    rate = {"sgd": 0.1, "adamw": 0.003}[optimizer]
    recipe = TrainingSettings(epochs=30, warmup_epochs=20, optimizer=optimizer, learning_rate=rate, ema_decay=0.99)
    tuned, epochs = fine_tune(mgnas.load(folder), recipe, digits.validation)
    assert tuned.config == mgnas.load(folder).config
    assert epochs == 20  # 287 images are 3 steps.
