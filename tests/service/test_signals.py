"""Signals, seen from outside: processes of their own, since one of them ends by force."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import logging, sys, threading, time
from detector.service.signals import stop_on_signals
logging.basicConfig(level="INFO")
stop = threading.Event()
with stop_on_signals(stop, {drain_timeout_s}):
    print("ready", flush=True)
    {body}
print("left", flush=True)
"""
ORDERLY = "stop.wait()"
STUBBORN = "time.sleep(60)"
BLOCKED = "threading.Lock().acquire(); l = threading.Lock(); l.acquire(); l.acquire()"


def start(body: str, drain_timeout_s: float) -> subprocess.Popen[str]:
    program = PROGRAM.format(body=body, drain_timeout_s=drain_timeout_s)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_order(number: signal.Signals) -> None:
    process = start(ORDERLY, 30)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "left\n")
    assert "stop requested" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("body", [STUBBORN, BLOCKED])
def test_the_bound_holds_even_if_the_main_thread_is_blocked(body: str) -> None:
    process = start(body, 0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert "drain_timeout_s" in err
    assert time.monotonic() - began >= 0.2


def test_a_second_interrupt_leaves_at_once() -> None:
    process = start(STUBBORN, 60)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "stop requested" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "at once" in err
