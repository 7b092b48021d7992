"""Steps of SGD and AdamW: state, overflow in float16, average of the weights, states of other machines and versions."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mgnas.models import ArchitectureConfig, build_model
from mgnas.search.training.memory import host_copy
from mgnas.search.training.optimization import Optimization
from mgnas.space import TrainingSettings

CPU = torch.device("cpu")
INPUTS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"gradient_clip": 0.0, "weight_decay": 0.0, "momentum": 0.5} | changes))


def optimization(scales_loss: bool = False, **changes) -> Optimization:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
    made = Optimization(model, settings(**changes), CPU, scales_loss)
    made.rate.fill_(0.1)
    return made


def step(made: Optimization, factor: float = 1.0) -> None:
    made.step(factor * made.model(INPUTS).square().mean())


def momentum(made: Optimization) -> list[torch.Tensor]:
    return [made.optimizer.state[parameter]["momentum_buffer"] for parameter in made.model.parameters()]


def test_weight_decay_spares_the_coefficients_of_polynomials():
    """They are vectors, as the weights of batch norms are."""
    model = build_model(ArchitectureConfig(family="mgnet", base_channels=(4, 8), smoother="polynomial"))
    groups = Optimization(model, settings(weight_decay=0.1), CPU, scales_loss=False).optimizer.param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    coefficients = [parameter for name, parameter in model.named_parameters() if name.endswith("coefficients")]
    assert [parameter.shape for parameter in coefficients] == [(1,)] * 4
    assert not decayed & set(map(id, coefficients))
    assert id(model.head.linear.weight) in decayed


def test_the_rate_is_read_from_the_device_in_every_step():
    made = optimization(momentum=0.0)
    before = made.model.weight.detach().clone()
    made.rate.zero_()
    step(made)
    assert torch.equal(made.model.weight, before)
    made.rate.fill_(0.1)
    step(made)
    assert not torch.equal(made.model.weight, before)


def test_everything_keeps_its_place_in_memory():
    made = optimization(ema_decay=0.5)
    kept = [*made.model.parameters(), *momentum(made), *made.trained_model.parameters(), made.rate]
    places = [tensor.data_ptr() for tensor in kept]
    step(made)
    made.restore(optimization(ema_decay=0.5).state())
    step(made)
    after = [*made.model.parameters(), *momentum(made), *made.trained_model.parameters(), made.rate]
    assert [tensor.data_ptr() for tensor in after] == places


def test_a_first_step_that_overflows_changes_nothing():
    """The momentum must be 0 afterwards, not what happened to be in its memory."""
    made = optimization(scales_loss=True)
    before = [parameter.detach().clone() for parameter in made.model.parameters()]
    step(made, factor=1e38)
    assert all(torch.equal(*pair) for pair in zip(made.model.parameters(), before, strict=True))
    assert not any(buffer.any() for buffer in momentum(made))
    assert made.state()["scaler"]["scale"] == 2.0**15, "half of its first value"
    step(made)
    assert all(buffer.isfinite().all() and buffer.any() for buffer in momentum(made))


ADAMW = {"optimizer": "adamw", "learning_rate": 0.01}


def moments(made: Optimization) -> list[torch.Tensor]:
    return [tensor for parameter in made.model.parameters() for tensor in made.optimizer.state[parameter].values()]


def test_everything_of_adamw_keeps_its_place_in_memory():
    made, other = optimization(**ADAMW), optimization(**ADAMW)
    places = [tensor.data_ptr() for tensor in [*made.model.parameters(), *moments(made)]]
    assert len(places) == 2 + 2 * 3
    step(made)
    step(other)
    step(other)
    made.restore(host_copy(other.state()))
    assert all(torch.equal(*pair) for pair in zip(moments(made), moments(other), strict=True))
    step(made)
    step(other)
    assert [tensor.data_ptr() for tensor in [*made.model.parameters(), *moments(made)]] == places
    assert torch.equal(made.model.weight, other.model.weight)


def test_steps_of_adamw_follow_its_formula():
    made = optimization(**ADAMW, weight_decay=0.2)
    weight, bias = (parameter.detach().clone().double() for parameter in made.model.parameters())
    means = {"weight": [0.0, 0.0], "bias": [0.0, 0.0]}
    values, decay = {"weight": weight, "bias": bias}, {"weight": 0.2, "bias": 0.0}
    for number in range(1, 4):
        leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
        loss = F.linear(INPUTS.double(), leaves["weight"], leaves["bias"]).square().mean()
        for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            first, second = means[name]
            first, second = 0.5 * first + 0.5 * gradient, 0.999 * second + 0.001 * gradient**2
            means[name] = [first, second]
            direction = first / (1 - 0.5**number) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
            values[name] = values[name] * (1 - 0.1 * decay[name]) - 0.1 * direction
        step(made)
    for name, parameter in made.model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), values[name], rtol=1e-4, atol=1e-5)


def test_a_step_of_adamw_that_overflows_changes_nothing():
    made = optimization(scales_loss=True, **ADAMW)
    before = [tensor.detach().clone() for tensor in [*made.model.parameters(), *moments(made)]]
    step(made, factor=1e38)
    after = [*made.model.parameters(), *moments(made)]
    assert all(torch.equal(*pair) for pair in zip(after, before, strict=True))
    step(made)
    assert all(tensor.isfinite().all() and tensor.any() for tensor in moments(made))


def test_a_state_without_a_scale_continues_in_float16():
    """As when a training in bfloat16 goes on on a machine that has only float16."""
    source, target = optimization(), optimization(scales_loss=True)
    step(source)
    target.restore(source.state())
    assert torch.equal(target.model.weight, source.model.weight)
    step(target)
    assert target.model.weight.isfinite().all()


def test_a_state_with_a_scale_continues_in_bfloat16():
    source, target = optimization(scales_loss=True), optimization()
    step(source)
    target.restore(source.state())
    assert torch.equal(target.model.weight, source.model.weight)


def test_a_state_with_a_scale_keeps_it():
    source, target = (optimization(scales_loss=True) for _ in range(2))
    step(source, factor=1e38)
    target.restore(source.state())
    assert target.state()["scaler"] == source.state()["scaler"]


def test_momentum_is_restored_in_the_memory_layout_of_the_weights():
    """A kernel that reads both together would mix values up otherwise."""
    model = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    made = Optimization(model, settings(), CPU, False)
    state = host_copy(made.state())
    saved = state["optimizer"]["state"][0]["momentum_buffer"].normal_()
    assert saved.stride() != model.weight.stride()
    made.restore(state)
    restored = made.optimizer.state[model.weight]["momentum_buffer"]
    assert restored.stride() == model.weight.stride()
    assert torch.equal(restored, saved)


@pytest.mark.parametrize("missing", ["model", "optimizer", "average"])
def test_a_state_that_lacks_a_part_is_refused(missing):
    made, state = optimization(ema_decay=0.9), optimization(ema_decay=0.9).state()
    del state[missing]
    with pytest.raises(KeyError):
        made.restore(state)


def test_the_average_follows_its_formula_and_goes_on_after_a_restart():
    made, expected = optimization(ema_decay=0.75), None
    for _ in range(2):
        for _ in range(2):
            step(made)
            weight = made.model.weight.detach().clone()
            expected = weight if expected is None else 0.75 * expected + 0.25 * weight
        torch.testing.assert_close(made.trained_model.weight, expected)
        again = optimization(ema_decay=0.75)
        again.restore(made.state())
        made = again


def test_statistics_of_batch_norm_are_averaged_too():
    model = nn.BatchNorm1d(3)
    model.num_batches_tracked = None
    made, expected = Optimization(model, settings(ema_decay=0.5), CPU, False), None
    for _ in range(3):
        made.step(F.mse_loss(model(INPUTS), torch.ones(8, 3)))
        mean = model.running_mean.clone()
        expected = mean if expected is None else (expected + mean) / 2
    torch.testing.assert_close(made.trained_model.running_mean, expected)


def test_a_checkpoint_of_version_0_1_0_is_restored():
    """It counts the batches of each batch norm, which no network does any more."""
    pytest.importorskip("optuna")
    from mgnas.models import build_model
    from mgnas.search.storage.run_directory import RunDirectory

    folder = Path(__file__).parents[2] / "data" / "run-0.1.0"
    run = RunDirectory(folder)
    (record,) = (record for record in run.load() if record.number == 7)
    state = torch.load(folder / "trials" / "00007.pt", weights_only=True)
    assert any("num_batches_tracked" in name for name in state["model"])
    made = Optimization(build_model(record.candidate.architecture), record.candidate.training, CPU, False)
    made.restore(state)
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, state["model"][name]), name
    assert "num_batches_tracked" not in str(made.model.state_dict().keys())
