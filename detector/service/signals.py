"""SIGTERM and SIGINT: leave in order, within a bound."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from threading import Event

logger = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count


@contextlib.contextmanager
def stop_on_signals(stop: Event, drain_timeout_s: float) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT set `stop`; whoever waits on it has `drain_timeout_s` to leave this context.

    After that the process ends with code 1 and a line in the log; at a second SIGINT it ends at once with code 130.
    Python runs its handlers between two instructions of the main thread, so one that is blocked inside a library would
    hear nothing. Here a thread hears of the signal from the operating system, through a pipe, and keeps the time.

    Main thread only.
    source: signal.set_wakeup_fd in the Python standard library
    """
    hear, tell = socket.socketpair()
    tell.setblocking(False)
    before = {number: signal.signal(number, _ignored) for number in (signal.SIGTERM, signal.SIGINT)}
    wakeup_before = signal.set_wakeup_fd(tell.fileno())
    watch = threading.Thread(target=_watch, args=(hear, stop, drain_timeout_s), name="signals", daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        tell.close()
        watch.join()
        hear.close()


def _ignored(number: int, frame: object) -> None:
    """A handler must exist, or the signal would end the process before the thread hears of it."""


def _watch(hear: socket.socket, stop: Event, drain_timeout_s: float) -> None:
    """Wait for signals until the other end closes, that is, until the context is left."""
    interrupts = 0
    while True:
        try:
            numbers = hear.recv(64)
        except TimeoutError:
            logger.error("still draining after service.drain_timeout_s; leaving anyway", extra={"drain_timeout_s": drain_timeout_s})
            os._exit(EXIT_FAILED)
        if not numbers:
            return
        interrupts += numbers.count(signal.SIGINT)
        if interrupts > 1:
            logger.error("interrupted twice: leaving at once")
            os._exit(EXIT_INTERRUPTED)
        asked = numbers.count(signal.SIGTERM) + numbers.count(signal.SIGINT) > 0
        if asked and not stop.is_set():
            logger.info("told to stop: draining", extra={"drain_timeout_s": drain_timeout_s})
            stop.set()
            hear.settimeout(drain_timeout_s)
