"""What a process may use of a machine: its own, or a container's limits in either version of control groups."""

import os

import pytest

from mgnas.machine import check_cores, cpu_quota, usable_cores, usable_memory

ALLOWED = len(os.sched_getaffinity(0))


@pytest.fixture
def machine(tmp_path):
    """(files below the control groups' folder, lines of the membership) -> the arguments of cpu_quota."""

    def make(files: dict[str, str], *lines: str):
        for name, content in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        (tmp_path / "self").write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / "cgroup", tmp_path / "self"

    return make


def v1(folder: str, quota: object, period: object = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("files", "lines", "quota"),
    [
        pytest.param({"cpu.max": "200000 100000\n"}, ["0::/"], 2.0, id="v2"),
        pytest.param({"cpu.max": "150000 100000\n"}, ["0::/"], 1.5, id="v2, fraction"),
        pytest.param({"cpu.max": "20000 10000\n"}, ["0::/"], 2.0, id="v2, other period"),
        pytest.param({"cpu.max": "max 100000\n"}, ["0::/"], None, id="v2, no quota"),
        pytest.param({"a/b/cpu.max": "300000 100000\n"}, ["0::/a/b"], 3.0, id="v2, own group"),
        pytest.param(
            {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, ["0::/a/b"], 2.0, id="v2, parent's quota"
        ),
        pytest.param(
            {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "100000 100000\n"}, ["0::/a/b"], 1.0, id="v2, smaller wins"
        ),
        pytest.param({"other/cpu.max": "100000 100000\n"}, ["0::/a"], None, id="v2, a neighbour's quota"),
        pytest.param({"cpu.max": "200000 100000\n"}, ["0::/docker/abc"], 2.0, id="v2, path not mounted"),
        pytest.param({"cpu.max": "200000 100000\n"}, ["0::/../../pod"], 2.0, id="v2, path above the namespace"),
        pytest.param({"unified/a/cpu.max": "100000 100000\n"}, ["0::/a"], 1.0, id="both versions mounted"),
        pytest.param({"cpu.max": "garbage\n"}, ["0::/"], None, id="v2, garbage"),
        pytest.param({"cpu.max": ""}, ["0::/"], None, id="v2, empty"),
        pytest.param({"cpu.max": "100000 0\n"}, ["0::/"], None, id="v2, period of zero"),
        pytest.param({"cpu.max": "200000 100000\n"}, [], 2.0, id="no membership"),
        pytest.param({"cpu.max": "200000 100000\n"}, ["garbage", ""], 2.0, id="garbled membership"),
        pytest.param(v1("cpu", 200_000), ["4:cpu:/"], 2.0, id="v1"),
        pytest.param(v1("cpu", -1), ["4:cpu:/"], None, id="v1, no quota"),
        pytest.param(v1("cpu,cpuacct", 250_000), ["4:cpu,cpuacct:/"], 2.5, id="v1, joint controllers"),
        pytest.param(v1("cpu", 100_000), ["4:cpuacct,cpu:/docker/abc"], 1.0, id="v1, path not mounted"),
        pytest.param(v1("cpu/docker/abc", 300_000), ["4:cpu:/docker/abc"], 3.0, id="v1, own group"),
        pytest.param(v1("cpuset", 100_000), ["4:cpuset:/"], None, id="v1, another controller"),
        pytest.param({"cpu/cpu.cfs_quota_us": "100000\n"}, ["4:cpu:/"], None, id="v1, no period"),
        pytest.param({}, ["0::/"], None, id="nothing mounted"),
    ],
)
def test_a_containers_quota(machine, files, lines, quota):
    assert cpu_quota(*machine(files, *lines)) == quota


@pytest.mark.parametrize(
    ("quota", "cores"), [("50000", 1), ("100000", 1), ("199999", 1), (str(10**9), ALLOWED), ("max", ALLOWED)]
)
def test_the_lesser_of_affinity_and_quota_counts_in_whole_cores_and_is_at_least_one(machine, quota, cores):
    assert usable_cores(*machine({"cpu.max": f"{quota} 100000\n"}, "0::/")) == cores


def test_a_machine_without_control_groups_has_its_affinity(tmp_path):
    assert usable_cores(tmp_path / "none", tmp_path / "none") == ALLOWED


PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("files", "lines", "limit"),
    [
        pytest.param({"memory.max": "1000000\n"}, ["0::/"], 10**6, id="v2"),
        pytest.param({"memory.max": "max\n"}, ["0::/"], PHYSICAL, id="v2, no limit"),
        pytest.param({"a/memory.max": "5000\n", "memory.max": "6000\n"}, ["0::/a"], 5000, id="v2, own group"),
        pytest.param({"memory/memory.limit_in_bytes": "7000\n"}, ["4:memory:/"], 7000, id="v1"),
        pytest.param({"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, ["4:memory:/"], PHYSICAL, id="v1, none"),
        pytest.param({"memory.max": "garbage\n"}, ["0::/"], PHYSICAL, id="garbage"),
        pytest.param({}, ["0::/"], PHYSICAL, id="nothing mounted"),
    ],
)
def test_the_memory_is_the_machines_or_the_containers(machine, files, lines, limit):
    assert usable_memory(*machine(files, *lines)) == limit


def test_a_trial_of_more_cores_than_there_are_is_refused(refusal):
    check_cores(usable_cores())
    message = refusal(lambda: check_cores(5000, "cats.yaml"))
    assert message.startswith("cats.yaml: resources.cpus_per_trial: a trial wants 5000 cores, but ")
