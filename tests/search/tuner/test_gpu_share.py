"""How many trainings share a GPU, without one."""

import math

import pytest

from mgnas.models import ArchitectureConfig
from mgnas.models.training_memory import training_bytes
from mgnas.search.config import Resources
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.tuner.gpu_share import (
    CONTEXT_BYTES,
    MOST_TRIALS_PER_GPU,
    MOST_TRIALS_WITH_MPS,
    Gpu,
    GpuNode,
    MemoryNeed,
    allocator_share,
    gpus_in_words,
    lack_of_memory,
    largest_candidate,
    search_need,
    share_of,
    training_need,
    trials_per_gpu,
    use_in_words,
)
from mgnas.space import SearchSpace, TrainingSettings

GIB = 2**30
H100, T4 = Gpu("NVIDIA H100", 80 * GIB), Gpu("Tesla T4", 15 * GIB)


def machine(*gpus: Gpu, cpus: float = 64, mps: bool = True) -> GpuNode:
    return GpuNode("here", cpus, gpus, mps)


def need(gibibytes: float) -> MemoryNeed:
    """A training that takes this much with its process."""
    return MemoryNeed("MgNet [64]", 128, round(gibibytes * GIB) - CONTEXT_BYTES)


# --------------------------------------------------------------------------------------------------- how many share one


@pytest.mark.parametrize(
    ("nodes", "gibibytes", "resources", "n_trials", "expected"),
    [
        pytest.param([machine(H100)], 1, {}, 100, MOST_TRIALS_WITH_MPS, id="small networks"),
        pytest.param([machine(H100, mps=False)], 1, {}, 100, MOST_TRIALS_PER_GPU, id="processes take turns"),
        pytest.param([machine(H100), machine(H100, mps=False)], 1, {}, 100, MOST_TRIALS_PER_GPU, id="on one machine"),
        pytest.param([machine(H100)], 27, {}, 100, 2, id="memory"),
        pytest.param([machine(H100)], 40, {}, 100, 2, id="memory, exactly"),
        pytest.param([machine(H100)], 41, {}, 100, 1, id="memory of one"),
        pytest.param([machine(H100)], 81, {}, 100, 1, id="memory of less than one"),
        pytest.param([machine(H100, T4)], 5, {}, 100, 3, id="the smallest GPU of a machine"),
        pytest.param([machine(H100), machine(T4)], 5, {}, 100, 3, id="the smallest GPU of a cluster"),
        pytest.param([machine(H100, cpus=3)], 1, {}, 100, 3, id="cores"),
        pytest.param([machine(H100, cpus=16)], 1, {"cpus_per_trial": 8}, 100, 2, id="cores of each trial"),
        pytest.param([machine(H100, H100, cpus=6)], 1, {}, 100, 3, id="cores of each GPU"),
        pytest.param([machine(H100), machine(H100, cpus=2)], 1, {}, 100, 2, id="cores of the smallest machine"),
        pytest.param([machine(H100, cpus=1)], 1, {"cpus_per_trial": 2}, 100, 1, id="too few cores"),
        pytest.param([machine(H100, H100)], 1, {"workers": 4}, 100, 2, id="workers"),
        pytest.param([machine(H100, H100)], 1, {"workers": 3}, 100, 2, id="workers that fill no GPU"),
        pytest.param([machine(H100, H100)], 1, {"workers": 64}, 2, 1, id="trials"),
    ],
)
def test_what_limits_the_trainings_on_a_gpu(nodes, gibibytes, resources, n_trials, expected):
    assert trials_per_gpu(nodes, need(gibibytes), Resources(**resources), n_trials) == expected


@pytest.mark.parametrize("trials", range(1, 33))
def test_so_many_shares_fit_on_a_gpu_and_no_more(trials):
    share = share_of(trials)
    assert round(share * 10_000) == pytest.approx(share * 10_000), "Ray counts in ten-thousandths"
    assert trials * share <= 1 < (trials + 1) * share
    assert math.floor(1 / share + 1e-9) == trials
    assert Resources(gpus_per_trial=share).gpus == share


@pytest.mark.parametrize(("gpus", "share"), [(1.0, 1.0), (4.0, 1.0), (0.5, 0.5 - 0.07), (0.25, 0.18), (0.1, 0.05)])
def test_the_allocator_leaves_room_for_the_process(gpus, share):
    assert allocator_share(gpus, 10 * CONTEXT_BYTES * 10 // 7) == pytest.approx(share)


# ------------------------------------------------------------------------------------------------ what a training needs


def test_a_training_needs_the_networks_memory_and_its_images():
    digits, tiny = load_dataset(DataSettings(name="digits")), ArchitectureConfig(family="mgnet", base_channels=(8,))
    images = (1150 + 287 + 360) * 64
    recipe = TrainingSettings(batch_size=64)
    assert training_need(tiny, recipe, digits, Resources()).allocated == images + training_bytes(tiny, 8, 64, 360)
    averaging = TrainingSettings(batch_size=4096, ema_decay=0.9)
    expected = training_bytes(tiny, 8, 1150, 360, average=True, value_bytes=4)
    assert training_need(tiny, averaging, digits, Resources(precision="float32")).allocated == images + expected
    adamw = TrainingSettings(batch_size=64, optimizer="adamw", learning_rate=0.003)
    expected = training_bytes(tiny, 8, 64, 360, second_moments=True)
    assert training_need(tiny, adamw, digits, Resources()).allocated == images + expected


def memory(candidate) -> int:
    return training_bytes(candidate.architecture, candidate.image_size, candidate.training.batch_size, 1024)


def test_the_largest_candidate_of_a_space_is_found(small_space, wide_space):
    for space in (small_space, wide_space):
        assert memory(largest_candidate(space, memory)) == max(map(memory, space.enumerate()))


def test_the_largest_candidate_is_found_beyond_a_sample():
    """One of 64^4 points has most channels on all levels; batches of up to 4,096 images take most memory."""
    channels = [[4 * factor] for factor in range(1, 65)]
    parameters = {
        "base_channels": channels,
        "smoothing_steps": {"low": 1, "high": 64},
        "batch_size": {"low": 16, "high": 4096, "log": True},
        "learning_rate": {"low": 0.01, "high": 1.0},
    }
    mapping = {"fixed": {"family": "mgnet"}, "parameters": parameters}
    space = SearchSpace(mapping, TrainingSettings(), num_classes=10, in_channels=3, image_size=32)
    largest = largest_candidate(space, memory)
    assert largest.architecture.channels == (256,)
    assert (largest.architecture.steps, largest.training.batch_size) == ((64,), 4096)


def test_a_search_needs_what_its_largest_candidate_needs(small_search):
    config = small_search()
    dataset, resources = load_dataset(config.data), Resources()
    needs = [
        training_need(candidate.architecture, candidate.training, dataset, resources)
        for candidate in config.search_space().enumerate()
    ]
    assert search_need(config.search_space(), dataset, resources) == max(needs, key=lambda need: need.allocated)


# ---------------------------------------------------------------------------------------------------------------- words


def test_gpus_and_their_use_in_words():
    assert gpus_in_words([machine(H100)]) == "1 GPU (NVIDIA H100, 80 GiB)"
    assert gpus_in_words([machine(H100, H100), machine(T4)]) == "3 GPUs (NVIDIA H100, 80 GiB; Tesla T4, 15 GiB)"
    assert [use_in_words(gpus) for gpus in (0.25, 0.3333, 0.6, 1.0, 2.0)] == [
        "4 trainings share one",
        "3 trainings share one",
        "each training has one",
        "each training has one",
        "each training has 2",
    ]


def test_what_does_not_fit_is_said():
    assert lack_of_memory([H100, T4], 1.0, need(15)) is None
    assert lack_of_memory([H100, T4], 2.0, need(16)) == (
        "the largest network (MgNet [64]) needs about 16 GiB at batch size 128, and a GPU has 15 GiB; "
        "networks that do not fit train more slowly, or fail"
    )
    assert "0.25 of a GPU has 3.8 GiB" in (lack_of_memory([T4], 0.25, need(4)) or "")
