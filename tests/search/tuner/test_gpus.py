"""What trainings get of a cluster's GPUs, on a real Ray that believes to have some."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mgnas.search.config import Resources
from mgnas.search.tuner.cluster import Cluster
from mgnas.search.tuner.gpu_share import Gpu, GpuNode, MemoryNeed
from mgnas.search.tuner.gpus import list_gpus, settle_gpus

GIB = 2**30
NEED = MemoryNeed("MgNet [64]", 128, 20 * GIB)
NODE = GpuNode("here", 64, (Gpu("NVIDIA H100", 80 * GIB), Gpu("NVIDIA H100", 80 * GIB)), mps=True)


@pytest.fixture(scope="module")
def cluster(request) -> Iterator[Cluster]:
    """A cluster on this machine that believes to have this number of GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"GPU": request.param, "CPU": 64}))
        with Cluster(Resources(), None) as started:
            yield started


two_gpus = pytest.mark.parametrize("cluster", [2], indirect=True, ids=["two GPUs"])
no_gpu = pytest.mark.parametrize("cluster", [0], indirect=True, ids=["no GPU"])


@pytest.fixture
def said(caplog):
    """The lines so far, as (level, line)."""
    caplog.set_level(logging.INFO, "mgnas.search.tuner.gpus")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


def settle(cluster: Cluster, wanted, trained_on_gpus=None, nodes=(NODE,), need=NEED) -> float:
    cluster.resources = Resources(gpus_per_trial=wanted)
    return settle_gpus(cluster, lambda: need, 100, trained_on_gpus, lambda _: nodes).gpus


@two_gpus
def test_trainings_share_the_gpus_by_their_memory(cluster, said):
    assert settle(cluster, "auto") == 0.3333
    assert cluster.fits() == 6
    assert said() == [("INFO", "2 GPUs (NVIDIA H100, 80 GiB): 3 trainings share one")]


@two_gpus
def test_a_line_says_what_mps_would_bring(cluster, said):
    node = replace(NODE, mps=False)
    assert settle(cluster, "auto", nodes=(node,)) == 0.5
    assert settle(cluster, "auto", nodes=(node,), need=MemoryNeed("MgNet [64]", 128, 39 * GIB)) == 0.5
    line = "2 GPUs (NVIDIA H100, 80 GiB): 2 trainings share one"
    assert said() == [("INFO", f"{line}; with NVIDIA's MPS (nvidia-cuda-mps-control -d) 3 would"), ("INFO", line)]


@two_gpus
def test_a_number_of_gpus_is_what_the_user_says(cluster, said):
    assert settle(cluster, 1) == 1.0
    assert cluster.fits() == 2
    assert said() == [("INFO", "2 GPUs (NVIDIA H100, 80 GiB): each training has one")]


@two_gpus
def test_networks_that_do_not_fit_are_a_warning(cluster, said):
    assert settle(cluster, "auto", need=MemoryNeed("MgNet [64]", 128, 90 * GIB)) == 1.0
    (_, (level, line)) = said()
    assert level == "WARNING"
    assert line.startswith(
        "the largest network (MgNet [64]) needs about 91 GiB at batch size 128, and a GPU has 80 GiB"
    )


@two_gpus
def test_gpus_that_are_not_used_are_one_line(cluster, said):
    expected = ("INFO", "2 GPUs not used, because gpus_per_trial is 0; --gpus-per-trial auto changes that")
    assert settle(cluster, 0) == 0.0
    assert settle(cluster, "auto", trained_on_gpus=False) == 0.0, "a search that was begun on CPUs goes on there"
    assert settle(cluster, 0, trained_on_gpus=False) == 0.0
    assert said() == [expected] * 3


@two_gpus
def test_gpus_that_pytorch_cannot_use_are_not_used(cluster, said, refusal):
    assert settle(cluster, "auto", nodes=()) == 0.0
    assert said() == [("WARNING", "Ray sees GPUs here, but PyTorch can use none of them: training on CPUs")]
    assert refusal(lambda: settle(cluster, 0.5, nodes=())) == (
        "resources.gpus_per_trial: Ray sees GPUs here, but PyTorch can use none of them; install PyTorch for them, or "
        "train on CPUs with --gpus-per-trial 0"
    )


@two_gpus
def test_more_gpus_than_there_are_are_refused(cluster, refusal):
    assert refusal(lambda: settle(cluster, 4)).startswith("resources: a trial wants 1 CPU, 4 GPU, but there are")


@two_gpus
def test_nodes_answer_which_gpus_pytorch_can_use(cluster):
    """The answer comes from a process of the node. Ray's GPUs here are made up, so it is that of any machine."""
    import torch

    names = [torch.cuda.get_device_properties(index).name for index in range(torch.cuda.device_count())]
    assert [gpu.name for node in list_gpus(cluster) for gpu in node.gpus] == names


@no_gpu
def test_without_gpus_trainings_use_cpus_and_a_search_on_gpus_does_not_go_on(cluster, said, refusal):
    assert settle(cluster, "auto") == 0.0
    assert settle(cluster, 0) == 0.0
    assert said() == [("INFO", "no GPU here: training on CPUs")]
    assert refusal(lambda: settle(cluster, "auto", trained_on_gpus=True)) == (
        "resources.gpus_per_trial: this run's trials were trained on GPUs, and there is none here; resume it where "
        "there is one, or force CPUs with --gpus-per-trial 0"
    )
    message = refusal(lambda: settle(cluster, 0.25, trained_on_gpus=True))
    assert message.startswith("resources: a trial wants 1 CPU, 0.25 GPU, but there are 64 CPU, 0 GPU;")
    assert message.endswith("train on CPUs with --gpus-per-trial 0")
