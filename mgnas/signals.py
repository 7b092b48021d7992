"""Ctrl-C and the signals that mean the same: held back where an interruption would break something."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_PATIENCE = 2
"""How many Ctrl-C are held back; the next one interrupts at once."""


@contextmanager
def held_interrupts() -> Iterator[None]:
    """A context in which Ctrl-C is noted and takes effect at its end.

    Raises:
        KeyboardInterrupt: at the end, if Ctrl-C was pressed; at once, if it was pressed again and again.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: Any) -> None:
        held.append(number)
        if len(held) > _PATIENCE:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    except Exception:
        if held:  # What failed may have failed because of it, and the user knows why it ends.
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """A context in which SIGTERM and SIGHUP mean the same as Ctrl-C.

    Batch systems send SIGTERM before they kill, and a terminal SIGHUP when it is closed. A SIGHUP that is ignored, as
    after nohup, stays ignored.
    """
    names = [name for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.Signals[name]: signal.getsignal(signal.Signals[name]) for name in names}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        restore_handlers(before)


def restore_handlers(before: Mapping[signal.Signals, Any]) -> None:
    """Put signal handlers back, as `signal.getsignal` gave them."""
    for number, handler in before.items():
        if handler is not None:  # None: it was not installed from Python, and cannot be put back from here.
            signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # A shell ignores Ctrl-C for what it runs with `&`.
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
