"""The modules against the mathematics as the papers state it.

The modules pass residuals and corrections on, and never compute f, A' u' or u_{k+1} = P' u_k. The references here are
the full approximation schemes word for word: every level keeps its own u and f. They take the weights and batch norms
out of the modules, and neither a module's `forward` nor its groups and strides.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mgnas.models import ArchitectureConfig


def conv(x, layer, groups=1, stride=1):
    return F.conv2d(x, layer.weight, stride=stride, padding=layer.weight.shape[-1] // 2, groups=groups)


def stem(net, images, config):
    layer, bn, _ = net
    return F.relu(bn(conv(images, layer, stride=config.stem_stride)))


def head(net, u):
    return u.mean(dim=(2, 3)) @ net.linear.weight.T + net.linear.bias


def smooth(u, f, steps, a, b):
    """u <- u + sigma(bn2(B sigma(bn1(f - A u)))) for the steps' batch norms and operators."""
    for step, a_i, b_i in zip(steps, a, b, strict=True):
        u = u + F.relu(step.bn2(b_i(F.relu(step.bn1(f - a_i(u))))))
    return u


def polynomial(step, a):
    """p_d(A) = 1 + c_1 A + ... + c_d A^d with the step's coefficients, term by term."""

    def p(x):
        total, power = x, x
        for c in step.coefficients if step.coefficients is not None else []:
            power = a(power)
            total = total + c * power
        return total

    return p


def transfer(net, u, f, a, coarse_a, config):
    """u' = Pi u and f' = R(f - A u) + A' u', or f' = R sigma(f - A u) + A' u'."""
    dense = config.resolution_transfer == "dense"
    groups = 1 if dense else u.shape[1]
    residual = F.relu(f - a(u)) if config.residual_activation else f - a(u)
    coarse_u, restricted = conv(u, net.pi, groups, stride=2), conv(residual, net.r, groups, stride=2)
    if dense:
        coarse_u, restricted = F.relu(net.pi_bn(coarse_u)), F.relu(net.r_bn(restricted))
    return coarse_u, restricted + coarse_a(coarse_u)


def anything(channels):
    """An operator that must not matter: the network has none in its place."""
    weight = torch.randn(channels, channels, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return lambda u: F.conv2d(u, weight, padding=1)


def mgnet_operators(level, channels, config):
    """A and B of every step of a level, the same module several times where they are shared."""
    count = len(level.steps)
    b = [lambda u, layer=layer: conv(u, layer) for layer in level.b]
    shares_a = config.sharing != "none" or config.smoother == "polynomial"
    own = [] if level.a is None else [level.a] if shares_a else level.a
    a = [lambda u, layer=layer: conv(u, layer) for layer in own]
    if config.smoother == "polynomial":
        a = (a or [anything(channels)]) * count
        return a, [polynomial(step, a[0]) for step in level.steps]
    if config.sharing == "none":
        return [anything(channels)] * (count - len(a)) + a, b
    return (a or [anything(channels)]) * count, b * count if config.sharing == "AB" else b


def literal_mgnet(net, config, images):
    f = stem(net.stem, images, config)
    u = torch.zeros_like(f)
    operators = [mgnet_operators(*each, config) for each in zip(net.levels, config.channels, strict=True)]
    for index, (level, (a, b)) in enumerate(zip(net.levels, operators, strict=True)):
        u = smooth(u, f, level.steps, a, b)
        if index + 1 < len(operators):
            coarse_a = operators[index + 1][0]
            u, f = transfer(net.transfers[index], u, f, a[-1], coarse_a[0], config)
    return head(net.head, u)


class ChannelLevel:
    """One channel level of a resolution level: its operators, its steps, and P' and P to and from the next coarser."""

    def __init__(self, module, groups, config):
        self.module, self.groups, self.config = module, groups, config

    def a(self, u):
        return conv(u, self.module.a, self.groups)

    def b(self, step):
        if self.config.smoother == "polynomial":
            return polynomial(step, self.a)
        layer = self.module.b if hasattr(self.module, "pre") else self.module.b[0]
        return lambda u: conv(u, layer, self.groups)

    def smooth(self, u, f, steps):
        return smooth(u, f, steps, [self.a] * len(steps), [self.b(step) for step in steps])

    def restrict(self, x):
        if self.config.channel_transfer == "learned":
            return conv(x, self.module.transfer.restriction, self.groups)
        return x.unflatten(1, (-1, 2)).mean(dim=2)

    def prolong(self, x):
        if self.config.channel_transfer == "learned":
            return conv(x, self.module.transfer.prolongation, self.groups)
        return torch.stack((x, x), dim=2).flatten(1, 2)


def channel_levels(module, channels, config):
    """The modules of a SiC block, finest first; all but the last are in groups of group_size channels."""
    levels = []
    while hasattr(module, "coarse"):
        levels.append(ChannelLevel(module, max(channels // config.group_size, 1), config))
        module, channels = module.coarse, channels // 2
    return [*levels, ChannelLevel(module, 1, config)]


def literal_sic_block(levels, u, f):
    us, fs, kept = [u], [f], []
    for fine, coarse in pairwise(levels):
        us[-1] = fine.smooth(us[-1], fs[-1], fine.module.pre)
        kept.append(fine.restrict(us[-1]))
        fs.append(fine.restrict(fs[-1] - fine.a(us[-1])) + coarse.a(kept[-1]))
        us.append(kept[-1])
    coarsest = levels[-1]
    u = coarsest.smooth(us[-1], fs[-1], coarsest.module.steps)
    for fine, fine_u, fine_f, old in zip(levels[-2::-1], us[-2::-1], fs[-2::-1], kept[::-1], strict=True):
        u = fine.smooth(fine_u + fine.prolong(u - old), fine_f, fine.module.post)
    return u


def literal_mgiad(net, config, images):
    f = stem(net.stem, images, config)
    u = torch.zeros_like(f)
    blocks = [channel_levels(*each, config) for each in zip(net.levels, config.channels, strict=True)]
    for index, block in enumerate(blocks):
        u = literal_sic_block(block, u, f)
        if index + 1 < len(blocks):
            a, coarse_a = block[0].a, blocks[index + 1][0].a
            u, f = transfer(net.transfers[index], u, f, a, coarse_a, config)
    return head(net.head, u)


def literal_mgic_block(block, config, x):
    levels = [block]
    while levels[-1].coarse is not None:
        levels.append(levels[-1].coarse)

    def smoothed(module, z, groups):
        k1, bn1, k2, bn2 = (getattr(module.smoother, name) for name in ("k1", "bn1", "k2", "bn2"))
        return F.relu(z + bn2(conv(F.relu(bn1(conv(z, k1, groups))), k2, groups)))

    def groups(level):
        return max(level.shape[1] // config.group_size, 1)

    xs = [x]
    for level in levels[:-1]:
        xs.append(conv(xs[-1], level.restriction, groups(xs[-1])))
    y = smoothed(levels[-1], xs[-1], 1)
    for level, fine, restricted in zip(levels[-2::-1], xs[-2::-1], xs[:0:-1], strict=True):
        z = fine + level.bn(conv(y - restricted, level.prolongation, groups(fine)))
        y = smoothed(level, z, groups(fine))
    return y


def literal_mgic(net, config, images):
    parts = iter(net)
    x = stem(next(parts), images, config)
    for stage in range(len(config.channels)):
        if stage > 0:
            depthwise, bn, _ = next(parts)
            x = F.relu(bn(conv(x, depthwise, groups=x.shape[1], stride=2)))
        for _ in range(config.stage_blocks[stage]):
            x = literal_mgic_block(next(parts), config, x)
    return head(next(parts), x)


def literal_resnet(net, config, images):
    parts = iter(net)
    x = stem(next(parts), images, config)
    for stage in range(len(config.channels)):
        for index in range(config.stage_blocks[stage]):
            block, begins = next(parts), stage > 0 and index == 0
            shortcut = x
            if begins:
                projection, bn = block.shortcut
                shortcut = bn(F.conv2d(x, projection.weight, stride=2))
            inner = F.relu(block.bn1(conv(x, block.conv1, stride=2 if begins else 1)))
            x = F.relu(shortcut + block.bn2(conv(inner, block.conv2)))
    return head(next(parts), x)


LITERAL = {"mgnet": literal_mgnet, "mgiad": literal_mgiad, "mgic": literal_mgic, "resnet": literal_resnet}


def assert_literal(net, config, training):
    net.train(training)
    generator = torch.Generator().manual_seed(3)
    size = 11 * config.stem_stride  # Batch norms over a few equal pixels would magnify rounding errors.
    images = torch.randn(3, config.in_channels, size, size, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        expected, actual = LITERAL[config.family](net, config, images), net(images)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def three_levels(family, **settings):
    return ArchitectureConfig(family=family, base_channels=(8, 16, 16), group_size=4, **settings)


CASES = [
    *(
        pytest.param(
            three_levels("mgnet", smoothing_steps=steps, sharing=sharing, resolution_transfer=transfer),
            id=f"mgnet-{'-'.join(map(str, steps))}-{sharing}-{transfer}",
        )
        for steps in [(2, 2, 2), (1, 3, 1)]
        for sharing in ["none", "A", "AB"]
        for transfer in ["depthwise", "dense"]
    ),
    *(
        pytest.param(
            three_levels(
                "mgiad",
                smoothing_steps=(1, 2, 1),
                fully_coupled_channels=coarsest,
                resolution_transfer=resolution,
                channel_transfer=channel,
            ),
            id=f"mgiad-down-to-{coarsest}-{resolution}-{channel}",
        )
        for coarsest in [2, 8, 16]
        for resolution in ["depthwise", "dense"]
        for channel in ["fixed", "learned"]
    ),
    *(
        pytest.param(
            three_levels(
                family,
                smoothing_steps=(2, 1, 1),
                fully_coupled_channels=4,
                smoother="polynomial",
                polynomial_degree=degree,
                residual_activation=activation,
                resolution_transfer=transfer,
            ),
            id=f"{family}-degree-{degree}-{transfer}-{activation}",
        )
        for family in ["mgnet", "mgiad"]
        for degree in [0, 1, 2, 3]
        for transfer, activation in [("depthwise", False), ("depthwise", True), ("dense", True)]
    ),
    *(
        pytest.param(
            replace(three_levels("mgiad", kernel_size=size, smoother=smoother), group_size=groups),
            id=f"mgiad-{size}x{size}-g{groups}-{smoother}",
        )
        for size in [5, 7]
        for groups in [1, 4]
        for smoother in ["learned", "polynomial"]
    ),
    pytest.param(three_levels("mgnet", sharing="none", residual_activation=True), id="mgnet-none-residual-activation"),
    *(
        pytest.param(three_levels(family, stem_stride=stride, fully_coupled_channels=4), id=f"{family}-stem-{stride}")
        for family in ["resnet", "mgnet", "mgic", "mgiad"]
        for stride in [2, 4]
    ),
    pytest.param(three_levels("mgic", fully_coupled_channels=4), id="mgic-down-to-2"),
    pytest.param(three_levels("mgic", fully_coupled_channels=16), id="mgic-down-to-8"),
    pytest.param(three_levels("resnet"), id="resnet"),
]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("config", CASES)
def test_networks_compute_the_literal_formulas(network, config, training):
    assert_literal(network(config), config, training)


@settings(max_examples=100)
@given(config=st.from_type(ArchitectureConfig), training=st.booleans(), seed=st.integers(0, 100))
def test_random_networks_compute_the_literal_formulas(network, config, training, seed):
    assert_literal(network(config, seed), config, training)
