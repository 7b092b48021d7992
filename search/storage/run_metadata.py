"""run.json: the run's id, what its trials were trained with, and the address of its study if that is on a server.

The trials of a search have the same settings and images, because their accuracies are compared. So a resumed search
is refused if these have changed. The number of trials, when they are enough, the focus, workers, the time limit, the
places of checkpoints and logs, the path of the images and the final training may change. So may the share of a GPU. A
search on GPUs continues on CPUs, or the reverse, only if the user forces it.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mgnas.errors import ConfigError, UserError
from mgnas.files import read_json, write_bytes

from ...space.candidate import TrainingSettings
from ..config import SearchConfig
from .server_address import has_password

logger = logging.getLogger(__name__)

_FILE = "run.json"
_FIXED_IN_SEARCH = ("sampler", "prior", "stopping", "seed")
_FIXED_IN_RESOURCES = ("precision", "execution", "deterministic")


@dataclass
class RunMetadata:
    """The content of run.json, which stays with a run wherever its directory is moved.

    Args:
        id: of this run and no other.
        study: address of the database server with the study; None: the study is in the directory.
        study_name: name of the study on the server.
        trained_with: `training_fingerprint` of the config that the trials were trained with; None: not known yet.
        images: `dataset_digest` of the images that the trials learned from; None: not known yet.
        largest_class: name of the class with the most validation images, and its share; None: not known yet.
        validation_images: number of the images that accuracies are measured on; None: not known yet.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    study: str | None = None
    study_name: str | None = None
    trained_with: dict[str, Any] | None = None
    images: str | None = None
    largest_class: tuple[str, float] | None = None
    validation_images: int | None = None

    @classmethod
    def read(cls, folder: Path) -> RunMetadata:
        """The metadata of a run directory; new ones if the file is damaged or missing (early versions wrote none).

        Raises:
            UserError: the file may not be read.
        """
        path = folder / _FILE
        try:
            metadata = cls(**read_json(path))
            if not isinstance(metadata.id, str) or not metadata.id.isalnum():
                raise ValueError
            if not isinstance(metadata.study, str | None) or not isinstance(metadata.study_name, str | None):
                raise ValueError
            if metadata.largest_class is not None:
                name, share = metadata.largest_class
                metadata.largest_class = str(name), float(share)
            if metadata.validation_images is not None and metadata.validation_images < 1:
                raise ValueError
            if metadata.trained_with is not None and "gpu" not in metadata.trained_with["resources"]:
                raise ValueError
        except FileNotFoundError:
            return cls()
        except PermissionError:
            problem = "may not be read, as it holds a password; ask its owner"
            raise UserError(f"{path}: {problem}") from None
        except (OSError, ValueError, TypeError, KeyError):
            lost = "whether the config has been changed since cannot be checked; name a study on a server with --study"
            logger.warning("%s: is damaged and will be made anew; %s", path, lost)
            return cls()
        return metadata

    def write(self, folder: Path) -> None:
        """Store the metadata. Only the owner may read the file if the study's address holds a password.

        Raises:
            UserError: the folder cannot be written.
        """
        content = json.dumps(asdict(self), indent=1) + "\n"
        secret = self.study is not None and has_password(self.study)
        write_bytes(folder / _FILE, content.encode(), mode=0o600 if secret else 0o666)

    @property
    def trained_on_gpus(self) -> bool | None:
        """Whether the trials are trained on GPUs; None: it is not decided yet."""
        return None if self.trained_with is None else self.trained_with["resources"]["gpu"]

    def check_fingerprint(self, config: SearchConfig) -> None:
        """Refuse a config that was edited in such a way that old and new trials could not be compared.

        Raises:
            ConfigError: it was; the message names the key.
        """
        now = training_fingerprint(config)
        before = now if self.trained_with is None else _as_json(self.trained_with)
        # Earlier versions have fewer training settings. Those that are missing were what they are by default.
        before["training"] = asdict(TrainingSettings()) | before.get("training", {})
        for one, other in ((before, now), (now, before)):
            if one["resources"]["gpu"] is None:  # `auto` contradicts neither
                one["resources"]["gpu"] = other["resources"]["gpu"]
        change = first_change(before, now)
        if change is not None:
            key, old, new = change
            forced = ", or force it with --gpus-per-trial" if key == "resources.gpu" else ""
            problem = f"was {old!r} for this run's trials and is {new!r} now; change it back, or start a new search"
            raise ConfigError(key, problem + forced, config.file)
        self.trained_with = now

    def check_images(self, digest: str, file: str | None, former: str | None = None) -> None:
        """Refuse other images than those that the trials so far have learned from.

        Args:
            digest: `dataset_digest` of the images.
            file: of the config, for the message.
            former: `former_digest` of the images, which runs of version 0.1.0 hold.

        Raises:
            ConfigError: the images are others.
        """
        if self.images not in (None, digest, former):
            problem = (
                "the images are not those that this run's trials learned from, or their classes have other names; "
                "restore them, or start a new search"
            )
            raise ConfigError("data.path", problem, file)
        self.images = digest


def training_fingerprint(config: SearchConfig) -> dict[str, Any]:
    """The settings that decide what the trials of a search are, in the types that JSON gives back.

    `resources.gpu` says whether they are trained on GPUs; None: `auto` has not been decided yet.
    """
    data, search, resources = (asdict(section) for section in (config.data, config.search, config.resources))
    data.pop("path")
    return _as_json(
        {
            "data": data,
            "space": config.space,
            "training": asdict(config.training),
            "search": {name: search[name] for name in _FIXED_IN_SEARCH},
            "resources": {
                **{name: resources[name] for name in _FIXED_IN_RESOURCES},
                "gpu": None if config.resources.gpus_per_trial == "auto" else config.resources.gpus > 0,
            },
        }
    )


def first_change(before: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs between two nested mappings.

    Returns:
        its dotted key, its value before and its value now; None: nothing differs.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            inner = f"{key}.{name}" if key else str(name)
            change = first_change(before.get(name), now.get(name), inner)
            if change is not None:
                return change
        return None
    return None if before == now else (key, before, now)


def _as_json(value: Any) -> Any:
    """The value as `json.loads` would give it back: string keys, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, (list, tuple)) else value
