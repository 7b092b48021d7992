"""The same numbers again: from the same seed, and after every interruption; damaged checkpoints are refused."""

import random

import numpy as np
import pytest
import torch

from mgnas.search.training.trainer import DamagedCheckpointError, EpochResult

from .conftest import ADAMW, MODERN, curve, same, settings, state, train_to_the_end

# -------------------------------------------------------------------------------------------------------- repeatability

FAMILIES = [
    {"family": "resnet", "base_channels": (4, 8), "blocks": 1},
    {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 2, "sharing": "A"},
    {"family": "mgic", "base_channels": (8, 16), "blocks": 1, "group_size": 4, "fully_coupled_channels": 8},
    {"family": "mgiad", "base_channels": (8, 16), "smoothing_steps": 1, "group_size": 4, "fully_coupled_channels": 4},
]


@pytest.fixture(params=FAMILIES, ids=lambda family: family["family"])
def architecture(request, tiny):
    return tiny(num_classes=2, **request.param)


def test_the_same_seed_gives_the_same_network_and_curve(start, architecture):
    first, again, other = (train_to_the_end(start(architecture=architecture, seed=seed)) for seed in (3, 3, 4))
    assert same(state(first), state(again))
    assert curve(first) == curve(again)
    assert not same(state(first), state(other))
    assert curve(first) != curve(other)


def test_the_global_generators_are_left_alone(start):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    train_to_the_end(start())
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_the_global_generators_have_no_influence(start):
    torch.manual_seed(1)
    first = start()
    first.run_epoch()
    torch.manual_seed(2)
    second = start()
    second.run_epoch()
    assert same(state(first), state(second))


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("interruptions", [(0,), (1,), (2,), (3,), (1, 2, 3), (4,)])
def test_a_continued_training_equals_the_uninterrupted_one(start, architecture, tmp_path, interruptions):
    whole, path = train_to_the_end(start(architecture=architecture)), tmp_path / "run.pt"
    trainer = start(architecture=architecture)
    for epoch in interruptions:
        while len(trainer.history) < epoch:
            trainer.run_epoch()
        trainer.save(path)
        trainer = start(architecture=architecture)
        trainer.load(path)
    train_to_the_end(trainer)
    assert same(state(trainer), state(whole))
    assert curve(trainer) == curve(whole)


@pytest.mark.parametrize(
    "changes", [ADAMW, MODERN, MODERN | {"augmentation": "autoaugment"}], ids=["adamw", "trivial", "autoaugment"]
)
def test_every_recipe_continues_bit_for_bit(start, tmp_path, changes):
    whole, first, path = train_to_the_end(start(settings(**changes))), start(settings(**changes)), tmp_path / "run.pt"
    for _ in range(2):
        first.run_epoch()
    first.save(path)
    stored = torch.load(path, weights_only=True)["optimizer"]["state"]
    assert all(set(tensors) == {"step", "exp_avg", "exp_avg_sq"} for tensors in stored.values())
    assert {float(tensors["step"]) for tensors in stored.values()} == {4.0}
    continued = start(settings(**changes))
    continued.load(path)
    assert same(state(train_to_the_end(continued)), state(whole))
    assert same(dict(continued.trained_model.state_dict()), dict(whole.trained_model.state_dict()))
    assert curve(continued) == curve(whole)


def test_every_recipe_gives_the_same_network_with_the_same_seed_and_leaves_generators_alone(start):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first, again, other = (train_to_the_end(start(settings(**MODERN), seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert same(state(first), state(again))
    assert not same(state(first), state(other))


def test_a_checkpoint_of_another_optimizer_is_damaged(start, tmp_path):
    start(settings()).save(tmp_path / "run.pt")
    with pytest.raises(DamagedCheckpointError):
        start(settings(**ADAMW)).load(tmp_path / "run.pt")


def test_a_trainer_can_go_back_to_its_checkpoint(start, tmp_path):
    trainer = start()
    trainer.run_epoch()
    trainer.save(tmp_path / "run.pt")
    then, history = state(trainer), list(trainer.history)
    trainer.run_epoch()
    trainer.load(tmp_path / "run.pt")
    assert same(state(trainer), then)
    assert trainer.history == history


def test_a_checkpoint_loads_as_weights_only_and_holds_the_curve(start, tmp_path):
    trainer = start()
    trainer.run_epoch()
    trainer.save(tmp_path / "run.pt")
    stored = torch.load(tmp_path / "run.pt", weights_only=True)
    assert same(stored["model"], trainer.model.state_dict())
    assert [EpochResult(**result) for result in stored["history"]] == trainer.history


def test_saving_leaves_only_the_checkpoint(start, tmp_path):
    trainer = start()
    for _ in range(2):
        trainer.run_epoch()
        trainer.save(tmp_path / "run.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_failing_save_leaves_the_last_checkpoint(start, tmp_path):
    trainer = start()
    trainer.run_epoch()
    trainer.save(tmp_path / "run.pt")
    content = (tmp_path / "run.pt").read_bytes()
    trainer.run_epoch()
    trainer.optimizer.param_groups[0]["unpicklable"] = lambda: None  # so that writing breaks off in the middle
    with pytest.raises(Exception, match=r"[Pp]ickle"):
        trainer.save(tmp_path / "run.pt")
    assert (tmp_path / "run.pt").read_bytes() == content


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_damaged(start, tmp_path, share):
    trainer, path = start(), tmp_path / "run.pt"
    trainer.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DamagedCheckpointError, match=r"run\.pt"):
        start().load(path)


def test_another_networks_checkpoint_is_damaged(start, tiny, tmp_path):
    start(architecture=tiny(num_classes=2, base_channels=(8,))).save(tmp_path / "run.pt")
    with pytest.raises(DamagedCheckpointError):
        start().load(tmp_path / "run.pt")
