"""Which descriptions mean the same network: equal ids for equal networks, and for no others."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.errors import ConfigError
from mgnas.models import ArchitectureConfig, build_model, count_macs, count_weights

RESNET = ArchitectureConfig(family="resnet", base_channels=(16, 32))
MGNET = ArchitectureConfig(family="mgnet", base_channels=(16, 32))
MGIC = ArchitectureConfig(family="mgic", base_channels=(16, 32), group_size=4)
MGIAD = ArchitectureConfig(family="mgiad", base_channels=(16, 32), group_size=4, fully_coupled_channels=4)


def one_level(**settings) -> ArchitectureConfig:
    return ArchitectureConfig(base_channels=(64,), **settings)


def logits(net: torch.nn.Module, config: ArchitectureConfig, image_size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    dtype = next(net.parameters()).dtype
    images = torch.randn(2, config.in_channels, image_size, image_size, generator=generator, dtype=dtype)
    with torch.no_grad():
        return net.eval()(images)


def shapes(net: torch.nn.Module) -> tuple:
    return tuple(parameter.shape for parameter in net.parameters())


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-8, atol=1e-8 * float(second.abs().max()))


@settings(max_examples=150)
@given(config=st.from_type(ArchitectureConfig))
def test_canonical_form_costs_the_same_and_is_its_own(config):
    canonical = config.canonical()
    assert canonical.canonical() == canonical
    assert canonical.id == config.id
    assert count_weights(canonical) == count_weights(config)
    assert count_macs(canonical, 11) == count_macs(config, 11)


@settings(max_examples=100)
@given(config=st.from_type(ArchitectureConfig))
def test_canonical_form_computes_the_same(network, config):
    own, canonical = network(config), network(config.canonical())
    assert shapes(own) == shapes(canonical)
    assert close(logits(own, config, 9), logits(canonical, config, 9))


@settings(max_examples=100)
@given(data=st.data())
def test_ids_are_equal_exactly_if_canonical_forms_are(data):
    config, other = data.draw(st.from_type(ArchitectureConfig)), data.draw(st.from_type(ArchitectureConfig))
    names = st.sampled_from(["smoothing_steps", "sharing", "group_size", "channel_levels", "blocks", "num_classes"])
    try:
        changed = replace(config, **{name: getattr(other, name) for name in data.draw(st.sets(names))})
    except ValueError:  # the two do not mix
        changed = other
    assert (changed.id == config.id) == (changed.canonical() == config.canonical())


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        *((RESNET, name, value) for name, value in [("smoothing_steps", 5), ("sharing", "A"), ("group_size", 3)]),
        *((RESNET, name, value) for name, value in [("channel_levels", 1), ("fully_coupled_channels", 2)]),
        *((RESNET, name, value) for name, value in [("resolution_transfer", "dense"), ("channel_transfer", "learned")]),
        *((MGNET, name, value) for name, value in [("blocks", 5), ("group_size", 3), ("channel_levels", 1)]),
        *((MGNET, name, value) for name, value in [("fully_coupled_channels", 2), ("channel_transfer", "learned")]),
        *((MGIC, name, value) for name, value in [("smoothing_steps", 5), ("sharing", "A"), ("channel_levels", 1)]),
        *((MGIC, name, value) for name, value in [("resolution_transfer", "dense"), ("channel_transfer", "learned")]),
        *((MGIAD, name, value) for name, value in [("blocks", 5), ("sharing", "none")]),
        *((config, "smoother", "polynomial") for config in (RESNET, MGIC)),
        *((config, "residual_activation", True) for config in (RESNET, MGIC)),
        *((config, "polynomial_degree", 2) for config in (RESNET, MGIC, MGNET, MGIAD)),
        *((config, "kernel_size", 5) for config in (RESNET, MGIC, MGNET, replace(MGIAD, channel_levels=1))),
        *((replace(MGNET, smoother="polynomial"), "sharing", value) for value in ("A", "none")),
    ],
    ids=lambda value: getattr(value, "family", None),
)
def test_settings_of_other_families_have_no_effect(config, name, value):
    assert replace(config, **{name: value}).id == config.id


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        *((config, "base_channels", (16, 64)) for config in (RESNET, MGNET, MGIC, MGIAD)),
        *((config, "base_channels", (16, 32, 64)) for config in (RESNET, MGNET, MGIC, MGIAD)),
        *((config, "channel_scaling", 2.0) for config in (RESNET, MGNET, MGIC, MGIAD)),
        *((config, "num_classes", 11) for config in (RESNET, MGNET, MGIC, MGIAD)),
        *((config, "stem_stride", stride) for config in (RESNET, MGNET, MGIC, MGIAD) for stride in (2, 4)),
        *((config, "in_channels", 1) for config in (RESNET, MGNET, MGIC, MGIAD)),
        *((config, "blocks", 3) for config in (RESNET, MGIC)),
        *((config, "blocks", (2, 1)) for config in (RESNET, MGIC)),
        *((config, "smoothing_steps", 3) for config in (MGNET, MGIAD)),
        *((config, "smoothing_steps", (2, 1)) for config in (MGNET, MGIAD)),
        *((config, "resolution_transfer", "dense") for config in (MGNET, MGIAD)),
        *((config, "group_size", 8) for config in (MGIC, MGIAD)),
        *((config, "fully_coupled_channels", 16) for config in (MGIC, MGIAD)),
        *((config, "smoother", "polynomial") for config in (MGNET, MGIAD)),
        *((replace(config, smoother="polynomial"), "polynomial_degree", 0) for config in (MGNET, MGIAD)),
        *((config, "residual_activation", True) for config in (MGNET, MGIAD)),
        *((MGIAD, "kernel_size", size) for size in (5, 7)),
        (MGNET, "sharing", "A"),
        (MGNET, "sharing", "none"),
        (MGIAD, "channel_levels", 2),
        (MGIAD, "channel_transfer", "learned"),
        *((config, "family", "resnet") for config in (MGNET, MGIC, MGIAD)),
    ],
    ids=lambda value: getattr(value, "family", None),
)
def test_settings_of_the_own_family_have_an_effect(config, name, value):
    assert replace(config, **{name: value}).id != config.id


ALIKE = [
    pytest.param(
        replace(MGNET, channel_scaling=2.0), replace(MGNET, base_channels=(32, 64)), id="lambda scales the channels"
    ),
    pytest.param(replace(MGIAD, smoothing_steps=(3, 3)), replace(MGIAD, smoothing_steps=3), id="steps equal per level"),
    pytest.param(replace(RESNET, blocks=(3, 3)), replace(RESNET, blocks=3), id="blocks equal per stage (resnet)"),
    pytest.param(replace(MGIC, blocks=(1, 1)), replace(MGIC, blocks=1), id="blocks equal per stage (mgic)"),
    pytest.param(replace(MGNET, smoothing_steps=1, sharing="none"), replace(MGNET, smoothing_steps=1), id="nu=1, none"),
    pytest.param(replace(MGNET, smoothing_steps=1, sharing="A"), replace(MGNET, smoothing_steps=1), id="nu=1, A"),
    # The first step of the finest level has no A, for u = 0: two steps there have one A between them.
    pytest.param(
        replace(MGNET, smoothing_steps=(2, 1), sharing="none"),
        replace(MGNET, smoothing_steps=(2, 1), sharing="A"),
        id="one A is as good as shared",
    ),
    pytest.param(
        one_level(family="mgnet", resolution_transfer="dense"), one_level(family="mgnet"), id="no resolution transfer"
    ),
    pytest.param(
        one_level(family="mgnet", residual_activation=True), one_level(family="mgnet"), id="no residual is restricted"
    ),
    pytest.param(
        replace(MGIAD, channel_levels=1, smoother="polynomial", residual_activation=True),
        replace(MGNET, smoothing_steps=4, smoother="polynomial", residual_activation=True, sharing="none"),
        id="mgiad of one channel level is mgnet with polynomials, too",
    ),
    pytest.param(replace(MGIAD, group_size=32), replace(MGIAD, group_size=64), id="one group anyway (mgiad)"),
    pytest.param(replace(MGIC, group_size=32), replace(MGIC, group_size=64), id="one group anyway (mgic)"),
    pytest.param(
        one_level(family="mgiad", fully_coupled_channels=5),
        one_level(family="mgiad", fully_coupled_channels=8),
        id="64, 32, 16, 8 by any threshold",
    ),
    pytest.param(
        one_level(family="mgiad", fully_coupled_channels=8),
        one_level(family="mgiad", fully_coupled_channels=1, channel_levels=4),
        id="64, 32, 16, 8 by threshold or by count",
    ),
    pytest.param(
        one_level(family="mgic", fully_coupled_channels=9),
        one_level(family="mgic", fully_coupled_channels=16),
        id="mgic down to 8 by any threshold",
    ),
    pytest.param(
        one_level(family="mgic", fully_coupled_channels=65, group_size=2),
        one_level(family="mgic", fully_coupled_channels=99, group_size=64),
        id="mgic without grouped levels",
    ),
    pytest.param(
        replace(MGIAD, channel_levels=1, smoothing_steps=(1, 2), channel_transfer="learned"),
        replace(MGNET, smoothing_steps=(2, 4), sharing="AB"),
        id="mgiad of one channel level is mgnet of doubled steps",
    ),
    pytest.param(
        replace(MGIAD, fully_coupled_channels=32, resolution_transfer="dense"),
        replace(MGNET, smoothing_steps=4, resolution_transfer="dense"),
        id="mgiad above the fully coupled channels is mgnet",
    ),
]


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_equal_networks_have_equal_ids(first, second):
    assert first.id == second.id


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_equal_networks_compute_the_same_with_the_same_numbers(network, first, second):
    assert close(logits(network(first), first), logits(network(second), second))


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_equal_networks_exchange_their_state(first, second):
    model, other = build_model(first), build_model(second)
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(model, first), logits(other, second))


def test_mgic_of_one_stage_without_coarser_levels_is_the_resnet(network):
    # Its block is a basic block, and the stages, which differ in how they halve the image, have no second one.
    mgic, resnet = one_level(family="mgic", fully_coupled_channels=65), one_level(family="resnet")
    assert close(logits(network(mgic), mgic), logits(network(resnet), resnet))
    assert mgic.id == resnet.id


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            replace(MGNET, smoothing_steps=(3, 1), sharing="none"),
            replace(MGNET, smoothing_steps=(3, 1), sharing="A"),
            id="three steps on the finest level have two A",
        ),
        pytest.param(
            replace(MGNET, smoothing_steps=(1, 2), sharing="none"),
            replace(MGNET, smoothing_steps=(1, 2), sharing="A"),
            id="two steps on a coarser level have two A",
        ),
        pytest.param(
            one_level(family="mgiad", fully_coupled_channels=8),
            one_level(family="mgiad", fully_coupled_channels=9),
            id="fully coupled above the channel level",
        ),
        pytest.param(
            one_level(family="mgic", fully_coupled_channels=16),
            one_level(family="mgic", fully_coupled_channels=17),
            id="mgic threshold above the channel level",
        ),
        # 16 channels stop at 8 or go on to 4, though both networks have a level of 4 channels, and three levels.
        pytest.param(
            replace(MGIAD, base_channels=(4, 16, 32), fully_coupled_channels=8),
            replace(MGIAD, base_channels=(4, 16, 32), fully_coupled_channels=4, channel_levels=3),
            id="a level below the fully coupled channels",
        ),
    ],
)
def test_different_networks_have_different_ids(first, second):
    assert first.id != second.id


@pytest.mark.parametrize(
    ("largest", "too_large", "message"),
    [
        pytest.param(
            {"family": "mgiad", "base_channels": [7], "smoothing_steps": 128},
            {"smoothing_steps": 129},
            "smoothing_steps: at most 128 before and as many after coarsening",
            id="steps that the canonical form doubles",
        ),
        pytest.param(
            {"family": "resnet", "base_channels": [32768], "channel_scaling": 2.0},
            {"base_channels": [32769]},
            "channel_scaling: 2 x 32769 = 65538; must come out a whole number from 1 to 65536",
            id="channels that the canonical form scales",
        ),
    ],
)
def test_the_largest_settings_still_have_a_canonical_form(largest, too_large, message):
    config = ArchitectureConfig.from_dict(largest)
    assert config.canonical().id == config.id
    with pytest.raises(ConfigError) as caught:
        ArchitectureConfig.from_dict(largest | too_large)
    assert str(caught.value) == message


def _valid(**choices):
    for values in product(*choices.values()):
        try:
            yield ArchitectureConfig.from_dict(dict(zip(choices, values, strict=True)))
        except ConfigError:
            continue


MULTIGRID = [
    *_valid(
        family=["mgnet"],
        base_channels=[[4], [4, 8], [2, 4, 4]],
        smoothing_steps=[1, 2, 4, [1, 3], [2, 1], [3, 1], [2, 1, 1], [2, 1, 2]],
        sharing=["none", "A", "AB"],
        resolution_transfer=["depthwise", "dense"],
    ),
    *_valid(
        family=["mgnet", "mgiad"],
        base_channels=[[4], [4, 8]],
        smoothing_steps=[1, 2, [2, 1]],
        group_size=[2],
        fully_coupled_channels=[2, 8],
        sharing=["none", "AB"],
        smoother=["learned", "polynomial"],
        polynomial_degree=[0, 1, 2],
        residual_activation=[False, True],
    ),
    *_valid(
        family=["mgiad"],
        base_channels=[[8], [4, 8], [2, 8, 16]],
        smoothing_steps=[1, [2, 1]],
        group_size=[2, 4, 8],
        channel_levels=[None, 1, 2],
        fully_coupled_channels=[1, 2, 4, 8],
        channel_transfer=["fixed", "learned"],
        kernel_size=[3, 5],
    ),
]
RESIDUAL = list(
    _valid(
        family=["mgic"],
        base_channels=[[4], [4, 8], [8, 8]],
        blocks=[1, 2, [1, 1], [1, 2], [2, 1]],
        group_size=[2, 4, 8],
        fully_coupled_channels=[2, 3, 4, 5, 8, 9],
    )
)


@pytest.mark.parametrize("configs", [pytest.param(MULTIGRID, id="mgnet-mgiad"), pytest.param(RESIDUAL, id="mgic")])
def test_ids_tell_networks_apart_as_their_outputs_do(network, configs):
    seen = {}
    for config in configs:
        net = network(config)
        output = logits(net, config)
        for other, result in seen.setdefault(shapes(net), []):
            assert close(output, result) == (config.id == other.id), (config, other)
        seen[shapes(net)].append((config, output))
    ids = [{config.id for config, _ in alike} for alike in seen.values()]
    assert sum(map(len, ids)) == len(set.union(*ids)), "an id spans networks of different shapes"
    assert len(set.union(*ids)) < len(configs), "the space has no repetitions to find"
