"""The settings of a search, as a YAML file describes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mgnas.errors import ConfigError
from mgnas.files import read_yaml, short
from mgnas.settings import build, settings, unknown_key

from ..space.candidate import TrainingSettings
from ..space.limits import parse_count
from ..space.search_space import SearchSpace
from .data.dataset import DataSettings, data_shape


def _share(value: Any) -> float:
    """A share as a number, or as a percentage: 0.005 or 0.5%."""
    text = str(value).strip()
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = 0.0
    if isinstance(value, bool) or not 0 < share < 1:
        raise ConfigError("", f"expected a share between 0 and 1, such as 0.005, or 0.5%, got {short(value)}")
    return share


@settings
class Until:
    """The `search.until` section of a search file: when the search has found enough."""

    gain: Annotated[float, BeforeValidator(_share)]
    """The search ends when further trials are expected to add less to the hypervolume than this share: 0.5%, 0.005."""
    trials: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Number of these further trials."""


def _count(value: Any) -> int | None:
    return None if value is None else parse_count(value)


@settings
class Focus:
    """The `search.focus` section of a search file: the part of the front that matters."""

    max_weights: Annotated[int | None, BeforeValidator(_count)] = None
    """The hypervolume is measured up to this number of weights, and no heavier network is trained: 60000, 60k."""
    min_weights: Annotated[int | None, BeforeValidator(_count)] = None
    """No lighter network is trained."""
    min_accuracy: Annotated[float, BeforeValidator(_share)] | None = None
    """The hypervolume is measured from this accuracy upwards: 0.9, 90%."""

    def __post_init__(self) -> None:
        if self.max_weights is None and self.min_weights is None and self.min_accuracy is None:
            raise ConfigError("", "names no limit; give max_weights, min_weights or min_accuracy, or drop it")
        if self.max_weights is not None and self.min_weights is not None and self.min_weights >= self.max_weights:
            raise ConfigError("min_weights", f"{self.min_weights:,} must be below max_weights, {self.max_weights:,}")


def _focus(value: Any) -> Any:
    """Accept a mapping, or none."""
    if value is None or isinstance(value, Focus):
        return value
    return None if value == "none" else build(Focus, value)


def _until(value: Any) -> Any:
    """Accept a mapping, a gain alone, or none."""
    if value is None or value == "none" or isinstance(value, Until):
        return None if value == "none" else value
    return build(Until, value if isinstance(value, Mapping) else {"gain": value})


@settings
class SearchSettings:
    """The `search` section of a search file: how to search."""

    sampler: Literal["ehvi", "random", "tpe", "nsga2", "gp"] = "ehvi"
    """Proposes candidates. ehvi: exact expected hypervolume improvement, with a Gaussian process of the accuracy and
    the known weights of every candidate. The others are Optuna's: random, TPE, NSGA-II and its Gaussian process."""
    prior: str = "none"
    """Knowledge of an earlier search: a shipped table (digits, cifar10), the file of a table, a run directory, or none.
    ehvi uses it to choose promising candidates, and pareto to predict learning curves."""
    stopping: Literal["none", "pareto"] = "none"
    """What happens to trials after an epoch. pareto pauses a trial while it is not expected to be more accurate than
    smaller networks are."""
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    """Number of candidates to train."""
    until: Annotated[Until | None, BeforeValidator(_until)] = None
    """End the search earlier, when further trials are not worth their time: {gain: 0.5%, trials: 20} ends it when the
    next 20 trials are expected to add less than 0.5 % to the hypervolume; 0.5% alone means the same. Needs the sampler
    ehvi. null or none: never."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the sampler. The seed of a training is this plus the number of its trial."""
    focus: Annotated[Focus | None, BeforeValidator(_focus)] = None
    """Search a part of the front alone: {max_weights: 60k, min_weights: 20k, min_accuracy: 90%}. The hypervolume is
    measured in that box, and nothing outside its weights is trained. Needs the sampler ehvi. null or none: the whole
    front."""
    loggers: list[Literal["tensorboard", "mlflow", "wandb"]] = field(default_factory=lambda: ["tensorboard"])
    """Where learning curves go besides the study: event files in the run directory, MLflow, Weights & Biases."""

    def __post_init__(self) -> None:
        if self.until is not None and self.sampler != "ehvi":
            raise ConfigError("until", f"needs the sampler ehvi, whose model expects the gain; {self.sampler} has none")
        if self.focus is not None and self.sampler != "ehvi":
            raise ConfigError("focus", f"needs the sampler ehvi; {self.sampler} does not measure hypervolumes in a box")


def _gpus(value: Any) -> Any:
    """Accept `auto` or a number of GPUs. Pydantic's own report on the union would list both types' complaints."""
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 64:
        raise ConfigError("", f"expected auto or a number from 0 to 64, got {short(value)}")
    if value > 1 and value != int(value):
        raise ConfigError("", f"{value:g} is neither at most 1 nor a whole number, as Ray needs it")
    return float(value)


@settings
class Resources:
    """The `resources` section of a search file: what trials run on."""

    workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Number of trials at the same time; null: as many as fit on the machine or cluster."""
    cpus_per_trial: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU cores of a trial, and the number of its threads."""
    gpus_per_trial: Annotated[float | Literal["auto"], BeforeValidator(_gpus)] = "auto"
    """GPUs of a trial: auto, or a number from 0 to 64. auto: trials share the GPUs of the machine or cluster, two or
    with MPS up to eight if their memory suffices; without a GPU they train on CPUs. The run keeps what auto became. 0:
    CPUs only. 0.25: four trials share a GPU. Above 1 it must be a whole number."""
    custom_per_trial: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = field(default_factory=dict)
    """Other resources that a trial takes of a node, by the names that the cluster gives them: {A100: 0.5}."""
    time_limit: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Maximum duration of a trial in seconds. A trial that takes longer is ended and FAILED. null: no limit."""
    storage: Annotated[str, Field(min_length=1)] | None = None
    """Folder or address (s3://, gs://, or another one of pyarrow or fsspec) for the checkpoints of running trials. All
    nodes must reach it. null: the run directory."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type in which convolutions compute. auto: half precision if the network trains faster in it on the device."""
    execution: Literal["auto", "eager", "compile", "cuda-graphs", "compile-cuda-graphs"] = "auto"
    """How training steps are executed. auto: cuda-graphs on GPUs and eager on CPUs. eager: operation by operation.
    compile: by torch.compile, with faster steps but minutes of compiling at the start of every trial. cuda-graphs: the
    kernels of a step are recorded once and then launched together (GPUs). compile-cuda-graphs: both."""
    deterministic: bool = False
    """On GPUs use only algorithms that give the same numbers every time; they are slower. CPUs always use such ones."""

    def __post_init__(self) -> None:
        taken = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial"}
        for name in self.custom_per_trial:
            if name in taken or not name.isprintable() or name.startswith("node:"):
                hint = f"; use {taken[name]}" if name in taken else ""
                raise ConfigError("custom_per_trial", f"{name!r} cannot be the name of a custom resource{hint}")

    @property
    def gpus(self) -> float:
        """GPUs of a trial; 0 as long as `auto` has not become a number."""
        return 0.0 if self.gpus_per_trial == "auto" else self.gpus_per_trial

    @property
    def per_trial(self) -> dict[str, float]:
        """The resources of a trial, by the names that Ray gives them."""
        return {"CPU": self.cpus_per_trial, "GPU": self.gpus, **self.custom_per_trial}


_SECTIONS = {
    "data": DataSettings,
    "training": TrainingSettings,
    "search": SearchSettings,
    "resources": Resources,
    "final_training": TrainingSettings,
}


@dataclass(frozen=True)
class SearchConfig:
    """All settings of a search.

    Args:
        name: the name of the run directories.
        data: which images to learn from.
        space: the `space` section as it stands in the file. `search_space` reads it.
        training: how trials are trained. The space may vary some of these settings.
        search: how to search.
        resources: what to run on.
        final_training: how a selected candidate is trained fully.
        file: the file with these settings, for messages.
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
            UserError: the file does not exist or is not YAML, a key is unknown, or a value is wrong.
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
        known_keys = ["name", "space", *_SECTIONS]
        for key in mapping:
            if key not in known_keys:
                raise unknown_key(str(key), known_keys).inside(file=file)
        for key in ("data", "space"):
            if mapping.get(key) is None:
                raise ConfigError(key, "is required and missing", file)
        name = mapping.get("name", name)
        if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_." for c in name) or name[0] == ".":
            raise ConfigError("name", f"expected letters, digits, '-', '_' and '.', got {name!r}", file)
        # The final training has the trials' recipe, except for the settings that it names.
        merged = dict(mapping)
        trials, final = (_section(mapping, key) for key in ("training", "final_training"))
        if isinstance(trials, Mapping) and isinstance(final, Mapping):
            merged["final_training"] = {**trials, **final}
        sections = {key: build(kind, _section(merged, key), key, file) for key, kind in _SECTIONS.items()}
        return cls(name=name, space=mapping["space"], file=file, **sections)

    def search_space(self) -> SearchSpace:
        """The search space for the shape of the data set.

        Raises:
            UserError: the space cannot be used, or the data cannot be read.
        """
        try:
            classes, channels, size = data_shape(self.data)
        except ConfigError as error:
            raise error.inside(file=self.file) from None
        return SearchSpace(
            self.space, self.training, num_classes=classes, in_channels=channels, image_size=size, file=self.file
        )

    def focused(self, space: SearchSpace) -> SearchSpace:
        """The part of the space that `search.focus` leaves to be trained; all of it without a focus.

        Raises:
            ConfigError: it is empty.
        """
        focus = self.search.focus
        if focus is None or (focus.min_weights is None and focus.max_weights is None):
            return space
        try:
            return space.within(focus.min_weights, focus.max_weights)
        except ConfigError as error:
            raise ConfigError("search.focus", error.problem, self.file) from None

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, with all defaults. `load` reads them back."""
        sections = {key: asdict(getattr(self, key)) for key in _SECTIONS}
        return {"name": self.name, "data": sections.pop("data"), "space": dict(self.space), **sections}

    def override(self, **changes: Any) -> SearchConfig:
        """The config with changed settings of `search`, `resources` or `data`. A value of None changes nothing."""
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
    """A section as it stands in the file. A missing or empty section has all defaults."""
    return {} if content.get(key) is None else content[key]


def _field_names(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}
