"""Gradients of all uses of a weight at once, against autograd's sum over the uses."""

import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mgnas.models import gathered_gradients
from mgnas.models.gathered_gradients import GatheredGradient


def images(count, channels, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64).requires_grad_()


def weights(out_channels, in_channels, groups, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(out_channels, in_channels // groups, 3, 3, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[10**9, 250, 0], ids=["all at once", "in parts", "one by one"], autouse=True)
def limit(request, monkeypatch):
    """How many values wait until gradients are computed."""
    monkeypatch.setattr(gathered_gradients, "LEFT_VALUES", request.param)
    return request.param


def gathered_gradient(stride=1, groups=1):
    return GatheredGradient((stride, stride), (1, 1), groups)


@contextmanager
def without_a_search_for_cycles():
    """A context in which memory is released only where no reference to it is left."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    uses=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    groups=st.sampled_from([1, 2, 4]),
    stride=st.sampled_from([1, 2]),
    channels_last=st.booleans(),
)
def test_gradients_are_the_sums_over_the_uses(uses, groups, stride, channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    inputs = [
        images(count, 4, seed=seed).detach().contiguous(memory_format=layout).requires_grad_()
        for seed, count in enumerate(uses)
    ]
    weight = weights(8, 4, groups).requires_grad_()
    gathered = gathered_gradient(stride, groups)
    shared = gathered.shared(weight)
    outputs = [gathered.convolution(x, shared) for x in inputs]
    expected = [F.conv2d(x, weight, None, stride, 1, 1, groups) for x in inputs]
    for one, other in zip(outputs, expected, strict=True):
        assert torch.equal(one, other)
    found, wanted = (
        torch.autograd.grad(sum(y.square().sum() for y in values), [*inputs, weight]) for values in (outputs, expected)
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_use_reads_the_output_of_another_and_the_weight_is_scaled_elsewhere():
    """As A of a polynomial smoother."""
    x, weight, scale = images(2, 4), weights(4, 4, 1).requires_grad_(), torch.tensor(0.5, dtype=torch.float64)
    gathered = gathered_gradient()
    shared = gathered.shared(weight)
    ours = gathered.convolution(gathered.convolution(x, shared).relu(), shared) + F.conv2d(x, shared * scale, padding=1)
    once = F.conv2d(x, weight, padding=1)
    theirs = F.conv2d(once.relu(), weight, padding=1) + scale * once
    for one, other in zip(*(torch.autograd.grad(y.sum(), [x, weight]) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_use_that_the_loss_does_not_depend_on_counts_for_nothing():
    x, weight = images(2, 4), weights(4, 4, 1).requires_grad_()
    gathered = gathered_gradient()
    shared = gathered.shared(weight)
    y, _ = gathered.convolution(x, shared), gathered.convolution(x + 1, shared)
    (found,) = torch.autograd.grad(y.sum(), weight)
    torch.testing.assert_close(found, torch.autograd.grad(F.conv2d(x, weight, padding=1).sum(), weight)[0])


def test_a_second_backward_pass_begins_anew():
    x, weight = images(2, 4), weights(4, 4, 1).requires_grad_()
    gathered = gathered_gradient()
    loss = gathered.convolution(x, gathered.shared(weight)).sum()
    first, second = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_a_backward_pass_that_was_not_for_the_weight_is_forgotten():
    x, weight = images(2, 4), weights(4, 4, 1).requires_grad_()
    gathered = gathered_gradient()
    shared = gathered.shared(weight)
    loss = gathered.convolution(gathered.convolution(x, shared).relu(), shared).sum()
    (expected,) = torch.autograd.grad(loss, weight, retain_graph=True)
    torch.autograd.grad(loss, x, retain_graph=True)
    assert torch.equal(torch.autograd.grad(loss, weight)[0], expected)


@pytest.mark.parametrize(("by", "message"), [("x", "once_differentiable"), ("weight", "does not require grad")])
def test_second_derivatives_are_refused(by, message):
    x, weight = images(2, 4), weights(4, 4, 1).requires_grad_()
    gathered = gathered_gradient()
    loss = gathered.convolution(x, gathered.shared(weight)).square().sum()
    (gradient,) = torch.autograd.grad(loss, {"x": x, "weight": weight}[by], create_graph=True)
    with pytest.raises(RuntimeError, match=message):
        gradient.sum().backward()


def test_a_weight_that_is_not_trained_leaves_nothing():
    x, gathered = images(2, 4), gathered_gradient()
    weight = weights(4, 4, 1)
    gathered.convolution(x, gathered.shared(weight)).sum().backward()
    assert x.grad is not None
    assert gathered.weight_gradient(weight) is None


def test_an_image_needs_no_gradient():
    x, weight = images(2, 4).detach(), weights(4, 4, 1).requires_grad_()
    gathered = gathered_gradient()
    gathered.convolution(x, gathered.shared(weight)).sum().backward()
    torch.testing.assert_close(weight.grad, torch.autograd.grad(F.conv2d(x, weight, padding=1).sum(), weight)[0])


def test_the_weights_gradient_is_one_convolution_of_all_uses_or_of_as_many_as_may_wait(limit):
    x, weight = images(2, 4), weights(4, 4, 1).requires_grad_()
    gathered = gathered_gradient()
    shared = gathered.shared(weight)
    loss = sum(gathered.convolution(x, shared).sum() for _ in range(5))
    with torch.profiler.profile(record_shapes=True) as profile:
        loss.backward()
    calls = [event for event in profile.events() if event.name == "aten::convolution_backward"]
    # Each use has 200 values.
    stacks = {10**9: [10], 250: [4, 4, 2], 0: [2] * 5}[limit]
    assert sorted(event.input_shapes[0][0] for event in calls) == sorted([*stacks, *[2] * 5])


class Fails(torch.autograd.Function):
    """The identity, whose backward pass runs out of memory."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise MemoryError


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_in_memory_after_a_pass(fails):
    with without_a_search_for_cycles():
        x, weight = images(2, 4), weights(4, 4, 1).requires_grad_()
        gathered = gathered_gradient()
        shared = gathered.shared(weight)
        hidden = gathered.convolution(Fails.apply(x) if fails else x, shared)
        kept = [weakref.ref(tensor) for tensor in (hidden, shared, gathered)]
        loss = gathered.convolution(hidden, shared).sum()
        try:
            loss.backward()
        except MemoryError as error:
            error.__traceback__ = None
        # On a CPU a failed backward pass leaves tasks in this thread's queue, until the next one.
        torch.zeros((), requires_grad=True).backward()
        del x, weight, gathered, shared, hidden, loss
        assert [reference() for reference in kept] == [None] * 3
