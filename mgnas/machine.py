"""What this process may use of the machine, which a container's limits can make less than there is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from .errors import ConfigError

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Number of cores: the process' affinity or its CPU quota, whichever is less; at least 1.

    A quota of 2.5 cores counts as 2, as Ray counts it.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(cgroups, membership)
    return allowed if quota is None else max(1, min(allowed, math.floor(quota)))


def cpu_quota(cgroups: Path, membership: Path) -> float | None:
    """The smallest CPU quota of a process' control groups, in cores.

    A group's parents limit it, too. In a container the group that the process is told may lie outside of what is
    mounted there; the mounted root is then the container's own group.

    Args:
        cgroups: where control groups are mounted, of version 1 or 2.
        membership: the file with the groups of the process: lines `number:controllers:/path`.

    Returns:
        the quota; None: there is none, or the files cannot be understood.
    """
    groups = _control_groups("cpu", cgroups, membership)
    quotas = [_quota_v2(folder) if version == 2 else _quota_v1(folder) for version, folder in groups]
    return min((quota for quota in quotas if quota is not None), default=None)


def usable_memory(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int | None:
    """Bytes of memory: the machine's, or the limit of the process' control groups if that is less; None: not known."""
    limits = []
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for version, folder in _control_groups("memory", cgroups, membership):
        limit = _text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if limit.isdecimal():  # Version 2 says `max` for no limit, version 1 a huge number.
            limits.append(int(limit))
    return min(limits, default=None)


def check_cores(cpus_per_trial: int, file: str | None = None) -> None:
    """Refuse a trial that takes more cores than this process may use.

    Args:
        cpus_per_trial: cores of a trial.
        file: with this setting, for the message.

    Raises:
        ConfigError: it takes more.
    """
    cores = usable_cores()
    if cpus_per_trial > cores:
        has = f"this machine lets it have {cores}"
        problem = f"a trial wants {cpus_per_trial} cores, but {has}; give at most {cores} (--cpus-per-trial {cores})"
        raise ConfigError("resources.cpus_per_trial", problem, file)


def _control_groups(controller: str, cgroups: Path, membership: Path) -> Iterator[tuple[int, Path]]:
    """The control groups that a process lies in, and their parents: (1 or 2: the version, folder)."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", f"1:{controller}:/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # Version 2, which a machine that uses both versions mounts below `unified`.
            version, names = 2, (".", "unified")
        elif controller in controllers.split(","):
            version, names = 1, (controllers, controller, "cpu,cpuacct")
        else:
            continue
        for name in names:
            for folder in _with_parents(cgroups / name, path):
                yield version, folder


def _with_parents(root: Path, path: str) -> Iterator[Path]:
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])


def _quota_v2(folder: Path) -> float | None:
    """`cpu.max` holds quota and period in microseconds, or `max` for no quota."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _quota_v1(folder: Path) -> float | None:
    """A quota of -1 microseconds is none."""
    return _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
