"""Ctrl-C is held back where it would break something, and other signals mean the same."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mgnas.signals import held_interrupts, restore_handlers, termination_as_interrupt

SIGINT = signal.SIGINT


def hold(times: int, failure: Exception | None = None) -> list:
    """Press Ctrl-C so often in a context that holds it back; returns how often that was possible."""
    reached = []
    try:
        with held_interrupts():
            for number in range(times):
                signal.raise_signal(SIGINT)
                reached.append(number)
            if failure is not None:
                raise failure
    except KeyboardInterrupt:
        reached.append("interrupted")
    return reached


def test_ctrl_c_takes_effect_at_the_end():
    assert hold(1) == [0, "interrupted"]
    assert signal.getsignal(SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_happens():
    with held_interrupts():
        pass
    assert signal.getsignal(SIGINT) is signal.default_int_handler


def test_a_failure_after_ctrl_c_is_its_consequence_and_another_one_is_not():
    assert hold(1, ValueError()) == [0, "interrupted"]
    with pytest.raises(ValueError, match="plain"):
        hold(0, ValueError("plain"))


def test_who_presses_it_again_and_again_is_heard_at_once():
    assert hold(5) == [0, 1, "interrupted"]


def test_contexts_may_be_nested():
    with held_interrupts():
        assert hold(1) == hold(1) == [0, "interrupted"]
    assert hold(1) == [0, "interrupted"]


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(SIGINT, signal.SIG_IGN)
    try:
        with held_interrupts():
            signal.raise_signal(SIGINT)
            assert signal.getsignal(SIGINT) is signal.SIG_IGN
        assert signal.getsignal(SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(SIGINT, before)


def test_a_thread_leaves_signals_alone():
    def enter():
        with held_interrupts(), termination_as_interrupt():
            return "no error"

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(enter).result() == "no error"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN])
def test_termination_and_a_closed_terminal_mean_ctrl_c_even_in_the_background(number, ctrl_c):
    # Ray leaves a handler of SIGTERM of its own in a process that has used it.
    before = {SIGINT: signal.signal(SIGINT, ctrl_c), number: signal.signal(number, signal.SIG_DFL)}
    try:
        with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        restore_handlers(before)


def test_after_nohup_a_closed_terminal_means_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_termination_is_held_back_as_ctrl_c_is():
    code = """
import os, signal
from mgnas.signals import held_interrupts, termination_as_interrupt
try:
    with termination_as_interrupt(), held_interrupts():
        os.kill(os.getpid(), signal.SIGHUP)
        print("reached", flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["reached", "interrupted"]
