"""Errors that the user can mend. The command line shows their message, which is one line, and no traceback."""

from __future__ import annotations

import unicodedata


class UserError(Exception):
    """An error in the user's input. The message is one line that says what is wrong and what would be right."""


class SearchStoppedError(UserError):
    """A search cannot go on, because a disk is full or a folder is gone, for example. Stored results are kept."""


class ConfigError(UserError, ValueError):
    """A setting that cannot be used. The message is `file: key: problem`.

    Args:
        key: the dotted path of the setting (`space.fixed.group_size`); empty if no single setting is at fault.
        problem: what is wrong and what would be right.
        file: the file that contains the setting, if any.
    """

    def __init__(self, key: str, problem: str, file: str | None = None) -> None:
        self.key, self.problem, self.file = key, problem, file
        text = ": ".join(part for part in (file, key, problem) if part)
        super().__init__(" ".join(text.split()))

    def inside(self, prefix: str = "", file: str | None = None) -> ConfigError:
        """The same error with `prefix` in front of its key, and with the file, if it has none yet."""
        key = ".".join(part for part in (prefix, self.key) if part)
        return ConfigError(key, self.problem, file or self.file)


def printable(text: object) -> str:
    """A text for a terminal: control characters are escaped, so it can neither move the cursor nor forge a line.

    So are characters that change the direction of text, and bytes of file names that are not UTF-8.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(map(_escaped, shown))


_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of characters that control a terminal, the direction of text or the end of a line."""


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # Python's stand-in for a byte that is not UTF-8 (PEP 383).
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in _INVISIBLE:
        return character.encode("unicode_escape").decode("ascii")
    return character


def first_line(reason: BaseException | str) -> str:
    """The first line of an error's message or of a text, for messages of one line.

    Returns:
        at most 300 characters; the class name of an error without a message, `unknown` for an empty text.
    """
    text = str(reason).strip()
    if not text:
        return "unknown" if isinstance(reason, str) else type(reason).__name__
    return text.splitlines()[0].rstrip()[:300]
