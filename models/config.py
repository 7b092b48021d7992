"""The architecture: its settings, when they are valid, and when two descriptions mean the same network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mgnas.errors import ConfigError
from mgnas.settings import build, settings

_MAX_CHANNELS, _MAX_STEPS = 65536, 256
_Channels = Annotated[int, Field(ge=1, le=_MAX_CHANNELS)]
_Count = Annotated[int, Field(ge=1, le=_MAX_STEPS)]


def _numbers(value: Any) -> Any:
    """Accept one number or a list of numbers. Pydantic's own report on the union would list both types' complaints."""
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(type(n) is int and 1 <= n <= _MAX_STEPS for n in numbers):
        expected = f"expected a whole number from 1 to {_MAX_STEPS}, or a list of one per level"
        raise ConfigError("", f"{expected}, got {value!r}")
    return value if isinstance(value, int) else tuple(value)


_PerLevel = Annotated[int | tuple[int, ...], BeforeValidator(_numbers)]


def _whole(value: Any) -> Any:
    """Refuse True and 5.0, which pydantic would take for 1 and 5 in a list of whole numbers."""
    if type(value) is not int:
        raise ConfigError("", f"expected a whole number, got {value!r}")
    return value


def _sequence(value: Any) -> Any:
    """Refuse sets, which have no order, and texts of digits. Pydantic would accept both as sequences."""
    if not isinstance(value, list | tuple):
        raise ConfigError("", f"expected a list of channels, one per level, got {value!r}")
    return tuple(value)


# The settings that change the networks of each family. The others have no effect there, and `canonical` drops them.
_EFFECTIVE = {
    "resnet": {"blocks"},
    "mgnet": {
        "smoothing_steps",
        "sharing",
        "smoother",
        "polynomial_degree",
        "resolution_transfer",
        "residual_activation",
    },
    "mgic": {"blocks", "group_size", "fully_coupled_channels"},
    "mgiad": {
        "smoothing_steps",
        "smoother",
        "polynomial_degree",
        "group_size",
        "kernel_size",
        "channel_levels",
        "fully_coupled_channels",
        "resolution_transfer",
        "residual_activation",
        "channel_transfer",
    },
}
_COMMON = {"family", "base_channels", "channel_scaling", "stem_stride", "num_classes", "in_channels"}
# Settings without effect on networks with this smoother: only a polynomial has a degree, and its A is always shared.
_INEFFECTIVE = {"learned": {"polynomial_degree"}, "polynomial": {"sharing"}}

_NAMES = {"resnet": "ResNet", "mgnet": "MgNet", "mgic": "MGIC", "mgiad": "MGiaD"}

_BETWEEN_LEVELS = ("resolution_transfer", "residual_activation")
"""Settings without effect on networks of one resolution level."""

_ADDED = ("stem_stride", "smoother", "polynomial_degree", "kernel_size", "residual_activation")
"""Settings that earlier versions do not have.

With their defaults they are left out of ids and files, so that a network keeps the id that it had without them.
"""


def effective_settings(family: str | None, smoother: str | None = None) -> set[str]:
    """Names of the settings that change networks of this family and smoother.

    What is not the name of a family or smoother stands for any of them.
    """
    of_family = _COMMON.union(*([_EFFECTIVE[family]] if family in _EFFECTIVE else _EFFECTIVE.values()))
    return of_family - _INEFFECTIVE.get(smoother or "", set())


@settings
class ArchitectureConfig:
    """One network, described by its family and its structural hyperparameters.

    The symbols are those of the papers: MgNet (He & Xu 2019), MGIC (Eliasof, Ephrath, Ruthotto & Treister 2020),
    MGiaD (van Betteray, Rottmann & Kahl 2022), Poly-MgNet (van Betteray, Rottmann & Kahl 2025), ResNet (He et al. 2016,
    the CIFAR form).

    Raises:
        pydantic.ValidationError (a ValueError): a value has the wrong type or range, or settings contradict
            each other. `from_dict` raises the one-line `ConfigError` instead.
    """

    family: Literal["resnet", "mgnet", "mgic", "mgiad"]
    """How the network is built."""
    base_channels: Annotated[tuple[_Channels, ...], BeforeValidator(_sequence), Field(min_length=1, max_length=16)]
    """Channels per resolution level (resnet, mgic: per stage) before scaling. Each further level halves the image."""
    channel_scaling: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] = 1.0
    """lambda: multiplies every entry of base_channels. The products must be whole numbers."""
    stem_stride: Annotated[Literal[1, 2, 4], BeforeValidator(_whole)] = 1
    """Stride of the first convolution. The finest level has the image's pixels per side divided by it, rounded up."""
    smoothing_steps: _PerLevel = 2
    """nu: smoothing steps, one number for all levels or one per level (mgnet; mgiad: before and after coarsening)."""
    sharing: Literal["none", "A", "AB"] = "AB"
    """Which operators the smoothing steps of a level share (mgnet; mgiad always shares both)."""
    smoother: Literal["learned", "polynomial"] = "learned"
    """B: a convolution, or a polynomial in A with coefficients of each step; A is then shared (mgnet, mgiad)."""
    polynomial_degree: Annotated[int, Field(ge=0, le=3)] = 1
    """d: degree of the polynomial 1 + c_1 A + ... + c_d A^d in place of B (smoother: polynomial)."""
    group_size: _Channels = 8
    """g_s: channels per group of a grouped convolution. A level with fewer channels is one group (mgiad, mgic)."""
    kernel_size: Annotated[Literal[3, 5, 7], BeforeValidator(_whole)] = 3
    """Pixels per side of the kernels of A and B on grouped channel levels; fully coupled ones keep 3 (mgiad)."""
    channel_levels: _Count | None = None
    """Maximum number of channel levels; null: as many as fully_coupled_channels allows (mgiad)."""
    fully_coupled_channels: _Channels = 8
    """mgiad: channels are not halved below this. mgic: the coarsest level is the first one with fewer channels."""
    resolution_transfer: Literal["depthwise", "dense"] = "depthwise"
    """Pi and R: strided depthwise convolutions, or dense ones with batch norm and ReLU (mgnet, mgiad)."""
    residual_activation: bool = False
    """The residual passes through ReLU before R (mgnet, mgiad)."""
    channel_transfer: Literal["fixed", "learned"] = "fixed"
    """P' and P between channel levels: averages and repeats, or grouped 1x1 convolutions (mgiad)."""
    blocks: _PerLevel = 2
    """Residual blocks, one number for all stages or one per stage (resnet, mgic)."""
    num_classes: Annotated[int, Field(ge=2, le=1_000_000)] = 10
    """Number of classes. A search takes it from the data."""
    in_channels: _Channels = 3
    """Channels of the images: 3 for RGB, 1 for grey. A search takes it from the data."""

    def __post_init__(self) -> None:
        for channels in self.base_channels:
            scaled = channels * self.channel_scaling
            whole = math.isclose(scaled, round(scaled), rel_tol=1e-9) and 1 <= round(scaled) <= _MAX_CHANNELS
            if not whole:
                expected = f"must come out a whole number from 1 to {_MAX_CHANNELS}"
                raise ConfigError("channel_scaling", f"{self.channel_scaling:g} x {channels} = {scaled:g}; {expected}")
        for name in ("smoothing_steps", "blocks"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != len(self.base_channels):
                counts = f"{len(value)} entries for {len(self.base_channels)} levels of base_channels"
                raise ConfigError(name, f"{counts}; give one number, or one per level")
        if self.family == "mgiad" and 2 * max(self.steps) > _MAX_STEPS:
            raise ConfigError("smoothing_steps", f"at most {_MAX_STEPS // 2} before and as many after coarsening")
        if self.family == "mgic" or (self.family != "resnet" and self.resolution_transfer == "depthwise"):
            self._check_depthwise_transfers()
        if self.family in ("mgic", "mgiad"):
            self._check_groups()

    def _check_depthwise_transfers(self) -> None:
        for fine, coarse in pairwise(self.channels):
            if coarse % fine:
                problem = f"{fine} -> {coarse} channels: a depthwise transfer needs a multiple of the level above"
                remedy = "change the channels" + (", or use resolution_transfer: dense" * (self.family != "mgic"))
                raise ConfigError("base_channels", f"{problem}; {remedy}")

    def _check_groups(self) -> None:
        for hierarchy in self.channel_hierarchies:
            for channels in hierarchy[:-1]:
                if channels % min(self.group_size, channels):
                    problem = f"{self.group_size} does not divide the {channels} channels of a grouped level"
                    raise ConfigError("group_size", f"{problem} (channel levels {', '.join(map(str, hierarchy))})")
                learned = self.family == "mgic" or self.channel_transfer == "learned"
                if learned and (channels // 2) % self.groups(channels):
                    problem = f"{self.group_size} is odd, so the grouped 1x1 transfer cannot halve {channels} channels"
                    remedy = "use an even group size" + (", or channel_transfer: fixed" * (self.family == "mgiad"))
                    raise ConfigError("group_size", f"{problem}; {remedy}")
            if self.family == "mgic" and hierarchy[-1] >= self.fully_coupled_channels:
                problem = f"{hierarchy[0]} channels cannot be halved to below the threshold"
                raise ConfigError("fully_coupled_channels", f"{problem} {self.fully_coupled_channels}; raise it")

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """c_l: channels per resolution level, after scaling by lambda."""
        return tuple(round(channels * self.channel_scaling) for channels in self.base_channels)

    @property
    def stem_kernel(self) -> int:
        """Pixels per side of the stem's kernels. With stride 4, kernels of 3 would skip every fourth row and column."""
        return max(3, self.stem_stride + 1)

    def level_sizes(self, image_size: int) -> list[int]:
        """Pixels per side of each resolution level. A stride divides them, rounding up."""
        strides = (self.stem_stride * 2**level for level in range(len(self.base_channels)))
        return [-(-image_size // stride) for stride in strides]

    def check_image_size(self, image_size: int) -> None:
        """Refuse images so small that a transfer would halve a single pixel.

        Raises:
            ConfigError: there are more levels than such images can be halved.
        """
        levels = len(self.base_channels)
        needed = self.stem_stride * 2 ** (levels - 2) + 1 if levels > 1 else 1
        if image_size < needed:
            stem = f" with stem_stride {self.stem_stride}" if self.stem_stride > 1 else ""
            problem = f"{levels} levels{stem} need images of at least {needed} x {needed} pixels"
            raise ConfigError("base_channels", f"{problem}, these have {image_size} x {image_size}; use fewer levels")

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """nu: smoothing steps of each resolution level."""
        return self._per_level(self.smoothing_steps)

    @cached_property
    def stage_blocks(self) -> tuple[int, ...]:
        """Residual blocks of each stage."""
        return self._per_level(self.blocks)

    def _per_level(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return value if isinstance(value, tuple) else (value,) * len(self.base_channels)

    @cached_property
    def channel_hierarchies(self) -> tuple[tuple[int, ...], ...]:
        """Channels c_k = c / 2^k of the channel levels, for each resolution level.

        Each tuple begins with the finest channel level and ends with the fully coupled one. Only mgiad and mgic have
        more than one channel level.
        """
        return tuple(self._hierarchy(channels) for channels in self.channels)

    def _hierarchy(self, channels: int) -> tuple[int, ...]:
        levels = [channels]
        while levels[-1] % 2 == 0:
            half = levels[-1] // 2
            if self.family == "mgiad":
                full = self.channel_levels is not None and len(levels) >= self.channel_levels
                if full or half < self.fully_coupled_channels:
                    break
            elif self.family != "mgic" or levels[-1] < self.fully_coupled_channels:
                break
            levels.append(half)
        return tuple(levels)

    @property
    def degree(self) -> int | None:
        """d of the polynomial in place of B; None if B is a convolution."""
        return self.polynomial_degree if self.smoother == "polynomial" else None

    def groups(self, channels: int) -> int:
        """Number of groups of a grouped convolution over `channels` channels: max(c / g_s, 1)."""
        return max(channels // self.group_size, 1)

    def canonical(self) -> ArchitectureConfig:
        """The canonical form: the one description of this network. Settings without effect have their defaults.

        Two configs describe the same network if and only if their canonical forms are equal. The canonical form may
        belong to another family. An MGiaD with a single channel level on every resolution level is the MgNet with
        2 nu steps and both operators shared. An MGIC of one stage without coarser channel levels is a ResNet.
        """
        return self._canonical

    @cached_property
    def _canonical(self) -> ArchitectureConfig:
        if self.family == "mgic" and self.channel_hierarchies == ((self.channels[0],),):
            return replace(self, family="resnet").canonical()
        if self.family == "mgiad" and all(len(hierarchy) == 1 for hierarchy in self.channel_hierarchies):
            doubled = tuple(2 * steps for steps in self.steps)
            return replace(self, family="mgnet", smoothing_steps=doubled, sharing="AB").canonical()
        effective = effective_settings(self.family, self.smoother)
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name in effective}
        kept |= {"base_channels": self.channels, "channel_scaling": 1.0}
        if len(self.channels) == 1:
            for name in _BETWEEN_LEVELS:
                kept.pop(name, None)
        for name, numbers in (("smoothing_steps", self.steps), ("blocks", self.stage_blocks)):
            if name in kept:
                kept[name] = numbers[0] if len(set(numbers)) == 1 else numbers
        if "sharing" in kept:
            kept["sharing"] = self._effective_sharing()
        if self.family in ("mgic", "mgiad"):
            kept |= self._effective_hierarchy()
        return ArchitectureConfig(**kept)

    def _effective_sharing(self) -> str:
        """The sharing in effect: `none` needs a level with two different A, `A` one with two different B."""
        if max(self.steps) == 1:
            return "AB"
        # NOTE: The first step of the finest level has no A, because u = 0 before it.
        if self.sharing == "none" and self.steps[0] <= 2 and max(self.steps[1:], default=1) == 1:
            return "A"
        return self.sharing

    def _effective_hierarchy(self) -> dict[str, Any]:
        """One choice among the group sizes, thresholds and level counts that give these channel levels."""
        hierarchies = self.channel_hierarchies
        grouped = [channels for hierarchy in hierarchies for channels in hierarchy[:-1]]
        kept: dict[str, Any] = {"group_size": min(self.group_size, max(grouped)) if grouped else 1}
        if self.family == "mgic":
            return kept | {"fully_coupled_channels": max(hierarchy[-1] for hierarchy in hierarchies) + 1}
        # A resolution level with a single channel level may have fewer channels than fully_coupled_channels.
        coarsest = min(hierarchy[-1] for hierarchy in hierarchies if len(hierarchy) > 1)
        return kept | {"fully_coupled_channels": coarsest, "channel_levels": max(map(len, hierarchies))}

    def has_effect(self, name: str) -> bool:
        """Whether building this network reads the setting of that name."""
        canonical = self.canonical()
        if name == "group_size" and all(len(hierarchy) == 1 for hierarchy in canonical.channel_hierarchies):
            return False
        if name == "residual_activation" and len(canonical.channels) == 1:
            return False
        return name in effective_settings(canonical.family, canonical.smoother)

    @cached_property
    def id(self) -> str:
        """The network's name: the family and 10 hexadecimal digits of a hash of the canonical form."""
        return network_id(asdict(self.canonical()))

    def to_dict(self) -> dict[str, Any]:
        """The settings that affect this family, as plain values for YAML and JSON."""
        effective = effective_settings(self.family, self.smoother)
        plain = {key: value for key, value in asdict(self).items() if key in effective and value is not None}
        plain = _without_added(plain)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, mapping: Any, prefix: str = "", file: str | None = None) -> ArchitectureConfig:
        """Make a config from a user's mapping.

        Raises:
            ConfigError: the mapping is no valid architecture; the message names `file` and the key under `prefix`.
        """
        return build(cls, mapping, prefix, file)

    def describe(self) -> str:
        """The network in words, on one line, for tables and plots."""
        stem = f", stem stride {self.stem_stride}" if self.stem_stride > 1 else ""
        return f"{_NAMES[self.family]} [{'-'.join(map(str, self.channels))}], {self._describe_levels()}{stem}"

    def _describe_levels(self) -> str:
        steps, blocks = (
            "-".join(map(str, value)) if isinstance(value, tuple) else value
            for value in (self.smoothing_steps, self.blocks)
        )
        if self.family == "resnet":
            return f"{blocks} blocks a stage"
        if self.family == "mgic":
            return f"{blocks} blocks a stage, g={self.group_size}, threshold {self.fully_coupled_channels}"
        parts = [f"nu={steps}"]
        if self.smoother == "polynomial":
            parts.append(f"polynomials of degree {self.polynomial_degree}")
        elif self.family == "mgnet":
            parts.append(f"sharing {self.sharing}")
        if self.family == "mgiad":
            deepest = max(map(len, self.channel_hierarchies))
            coupled = min(hierarchy[-1] for hierarchy in self.channel_hierarchies)
            parts.append(f"g_s={self.group_size}")
            if self.kernel_size > 3:
                parts.append(f"{self.kernel_size}x{self.kernel_size}")
            parts.append(f"{deepest} channel levels down to {coupled}")
        parts.append(f"{self.resolution_transfer} transfers")
        if self.residual_activation:
            parts.append("residual activation")
        return ", ".join(parts)


_DEFAULTS = {field.name: field.default for field in fields(ArchitectureConfig)}


def network_id(canonical: Mapping[str, Any]) -> str:
    """The id of the network whose canonical form has these settings."""
    text = json.dumps(_without_added(canonical), sort_keys=True)
    return f"{canonical['family']}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _without_added(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those of `_ADDED` settings that say what earlier versions do anyway."""
    said = {"polynomial_degree"} if values.get("smoother") == "polynomial" else set()
    return {key: value for key, value in values.items() if key not in _ADDED or key in said or value != _DEFAULTS[key]}
