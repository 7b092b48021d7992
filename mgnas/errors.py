"""Errors that the user can mend; each is one line, and the command line shows nothing else."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one line that says what is wrong and what would be right."""


class SearchStoppedError(UserError):
    """A search cannot go on as things are: no room on a disk, a folder that is gone. What was stored is kept."""


class ConfigError(UserError, ValueError):
    """A setting that cannot be used.

    Args:
        key: the setting, dotted from the outermost mapping (`space.fixed.group_size`); empty if not a single one.
        problem: what is wrong and what would be right, without the key.
        file: the file that the setting stands in, if it came from one.
    """

    def __init__(self, key: str, problem: str, file: str | None = None) -> None:
        self.key, self.problem, self.file = key, problem, file
        text = ": ".join(part for part in (file, key, problem) if part)
        super().__init__(" ".join(text.split()))

    def inside(self, prefix: str = "", file: str | None = None) -> ConfigError:
        """The same error, seen from the mapping `prefix` and the file that contain its key."""
        key = ".".join(part for part in (prefix, self.key) if part)
        return ConfigError(key, self.problem, file or self.file)


def first_line(reason: BaseException | str) -> str:
    """The first line of an error's message or of a text, for messages of one line.

    Returns:
        at most 300 characters; the class name of an error without a message, `unknown` for an empty text.
    """
    text = str(reason).strip()
    if not text:
        return "unknown" if isinstance(reason, str) else type(reason).__name__
    return text.splitlines()[0].rstrip()[:300]
