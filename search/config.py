"""A search, as a YAML file describes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mgnas.errors import ConfigError
from mgnas.files import read_yaml
from mgnas.settings import build, settings, unknown_key

from ..space.candidate import TrainingSettings
from ..space.search_space import SearchSpace
from .data.dataset import DataSettings, data_shape


@settings
class SearchSettings:
    """How to search."""

    sampler: Literal["ehvi", "random", "tpe", "nsga2", "gp"] = "ehvi"
    """Proposes candidates. ehvi: a Gaussian process of the accuracy and the exact expected hypervolume improvement,
    which knows every candidate's weights. The others are Optuna's: random, TPE, NSGA-II, its Gaussian process."""
    prior: str = "none"
    """What an earlier search knows: a shipped table (digits, cifar10), a table's file, a run directory, or none. ehvi
    asks it which candidates are promising, pareto how curves go on."""
    stopping: Literal["none", "pareto", "mo-asha"] = "none"
    """After each epoch: pareto pauses a trial that is not expected to beat what smaller ones have reached, until that
    changes; mo-asha is successive halving over both objectives."""
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    """How many candidates to train."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the sampler and, plus the trial's number, of each training."""
    loggers: list[Literal["tensorboard", "mlflow", "wandb"]] = field(default_factory=lambda: ["tensorboard"])
    """Where curves go besides the study: event files in the run directory, MLflow, Weights & Biases."""


@settings
class Resources:
    """What trials run on."""

    workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Trials at the same time; null: as many as the machine or cluster holds."""
    cpus_per_trial: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU cores, and threads, of a trial."""
    gpus_per_trial: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    """GPUs of a trial; 0.25 packs four trials onto one, from 1 on a whole number."""
    custom_per_trial: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = field(default_factory=dict)
    """What else of a node a trial takes, by the name that the cluster gives it: {A100: 0.5}."""
    time_limit: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Seconds that a trial may take in all; one that takes longer is ended and FAILED. null: no limit."""
    storage: Annotated[str, Field(min_length=1)] | None = None
    """Folder or address (s3://, gs://, whatever pyarrow or fsspec know) that all nodes reach, for the checkpoints of
    running trials; null: the run directory."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type that convolutions compute in; auto: half precision where the device and the network are faster in it."""
    execution: Literal["eager", "compile", "cuda-graphs"] = "eager"
    """How training steps are executed. compile: by torch.compile, minutes of compiling at the start of every trial for
    faster steps; cuda-graphs: a step's kernels are recorded once and launched together (GPUs)."""
    deterministic: bool = False
    """On GPUs use only algorithms that give the same numbers every time, at some speed; CPUs always do."""

    def __post_init__(self) -> None:
        if self.gpus_per_trial > 1 and not self.gpus_per_trial.is_integer():
            problem = f"{self.gpus_per_trial:g} is neither at most 1 nor a whole number, as Ray needs it"
            raise ConfigError("gpus_per_trial", problem)
        taken = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial"}
        for name in self.custom_per_trial:
            if name in taken or not name.isprintable() or name.startswith("node:"):
                hint = f"; use {taken[name]}" if name in taken else ""
                raise ConfigError("custom_per_trial", f"{name!r} cannot be the name of a custom resource{hint}")

    @property
    def per_trial(self) -> dict[str, float]:
        """What a trial takes, by Ray's names."""
        return {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial, **self.custom_per_trial}


_SECTIONS = {
    "data": DataSettings,
    "training": TrainingSettings,
    "search": SearchSettings,
    "resources": Resources,
    "final_training": TrainingSettings,
}


@dataclass(frozen=True)
class SearchConfig:
    """A whole search.

    Args:
        name: of the run directories.
        data: which images.
        space: the `space` section as it stands in the file; `search_space` makes sense of it.
        training: how trials are trained, unless searched.
        search: how to search.
        resources: what to run on.
        final_training: how a selected config is trained fully.
        file: where all this was read, for messages.
    """

    name: str
    data: DataSettings
    space: Mapping[str, Any]
    training: TrainingSettings
    search: SearchSettings
    resources: Resources
    final_training: TrainingSettings
    file: str

    @classmethod
    def load(cls, path: str | os.PathLike) -> SearchConfig:
        """Read a search from a YAML file.

        Raises:
            UserError: no such file, not YAML, an unknown key, a wrong value.
        """
        return cls.from_mapping(read_yaml(path), str(path), Path(path).stem)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], file: str = "<config>", name: str = "search") -> SearchConfig:
        """Make a search from a mapping with the keys of a search file.

        Args:
            mapping: what the file would hold.
            file: what messages call it.
            name: the search's name, unless the mapping has one.

        Raises:
            ConfigError: an unknown or missing key, or a wrong value; the message names the key.
        """
        known = ["name", "space", *_SECTIONS]
        for key in mapping:
            if key not in known:
                raise unknown_key(str(key), known).inside(file=file)
        for key in ("data", "space"):
            if mapping.get(key) is None:
                raise ConfigError(key, "is required and missing", file)
        name = mapping.get("name", name)
        if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_." for c in name) or name[0] == ".":
            raise ConfigError("name", f"expected letters, digits, '-', '_' and '.', got {name!r}", file)
        # Final training starts from the trials' recipe and changes what it names.
        merged = dict(mapping)
        trials, final = (_section(mapping, key) for key in ("training", "final_training"))
        if isinstance(trials, Mapping) and isinstance(final, Mapping):
            merged["final_training"] = {**trials, **final}
        sections = {key: build(kind, _section(merged, key), key, file) for key, kind in _SECTIONS.items()}
        return cls(name=name, space=mapping["space"], file=file, **sections)

    def search_space(self) -> SearchSpace:
        """The space, fitted to the data set.

        Raises:
            UserError: the space cannot be used, or the data cannot be read.
        """
        try:
            classes, channels, size = data_shape(self.data)
        except ConfigError as error:
            raise error.inside(file=self.file) from None
        shape = {"num_classes": classes, "in_channels": channels, "image_size": size}
        return SearchSpace(self.space, self.training, **shape, file=self.file)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, complete with defaults; `load` reads it back."""
        sections = {key: asdict(getattr(self, key)) for key in _SECTIONS}
        return {"name": self.name, "data": sections.pop("data"), "space": dict(self.space), **sections}

    def override(self, **changes: Any) -> SearchConfig:
        """The config with single settings of `search`, `resources` or `data` changed; None changes nothing."""
        changed = self
        for name, value in changes.items():
            if value is None:
                continue
            section = next(key for key in ("search", "resources", "data") if name in _field_names(_SECTIONS[key]))
            settings_now = getattr(changed, section)
            values = {field.name: getattr(settings_now, field.name) for field in fields(settings_now)}
            changed = replace(changed, **{section: build(_SECTIONS[section], values | {name: value}, section)})
        return changed


def _section(content: Mapping[str, Any], key: str) -> Any:
    """A section as it stands in the file; one that is missing or empty has its defaults."""
    return {} if content.get(key) is None else content[key]


def _field_names(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}
