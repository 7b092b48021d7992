"""run.json: a run's id, what its trials are trained with, and where its study is if that is not in the directory."""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mgnas.errors import ConfigError, UserError
from mgnas.files import write_bytes

from ..config import SearchConfig
from .fingerprint import first_change, training_fingerprint
from .study import has_password

logger = logging.getLogger(__name__)

_FILE = "run.json"


@dataclass
class RunMetadata:
    """What stays with a run wherever its directory goes.

    Args:
        id: of this run and no other.
        study: address of the database server with the study; None: it is in the directory.
        study_name: its name on the server.
        trained_with: `training_fingerprint` of the config that the trials were trained with; None: not known yet.
        images: digest of the images that they learned from; None: not known yet.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    study: str | None = None
    study_name: str | None = None
    trained_with: dict[str, Any] | None = None
    images: str | None = None

    @classmethod
    def read(cls, folder: Path) -> RunMetadata:
        """That of a run directory; a new one if it has none, as those of older versions, or a damaged one.

        Raises:
            UserError: the file may not be read.
        """
        path = folder / _FILE
        try:
            identity = cls(**json.loads(path.read_text(encoding="utf-8")))
            if not isinstance(identity.id, str) or not identity.id.isalnum():
                raise ValueError
        except FileNotFoundError:
            return cls()
        except PermissionError:
            problem = "may not be read, as it holds a password; ask its owner"
            raise UserError(f"{path}: {problem}") from None
        except (OSError, ValueError, TypeError):
            lost = "whether the config has been changed since cannot be checked; name a study on a server with --study"
            logger.warning("%s: is damaged and will be made anew; %s", path, lost)
            return cls()
        return identity

    def write(self, folder: Path) -> None:
        """Store it; only the owner may read the file if the study's address holds a password.

        Raises:
            UserError: the folder cannot be written.
        """
        content = json.dumps(asdict(self), indent=1) + "\n"
        secret = self.study is not None and has_password(self.study)
        write_bytes(folder / _FILE, content.encode(), mode=0o600 if secret else 0o644)

    def check_fingerprint(self, config: SearchConfig) -> None:
        """Refuse a config that was edited so that old and new trials would not be comparable.

        Raises:
            ConfigError: it was; names the key.
        """
        now = training_fingerprint(config)
        change = first_change(self.trained_with or now, now)
        if change is not None:
            key, before, after = change
            problem = (
                f"was {before!r} for this run's trials and is {after!r} now; change it back, or start a new search"
            )
            raise ConfigError(key, problem, config.file)
        self.trained_with = now

    def check_images(self, content: str, file: str) -> None:
        """Refuse other images than the trials so far have learned from.

        Raises:
            ConfigError: they are others.
        """
        if self.images not in (None, content):
            problem = (
                "the images are not those that this run's trials learned from; restore them, or start a new search"
            )
            raise ConfigError("data.path", problem, file)
        self.images = content
