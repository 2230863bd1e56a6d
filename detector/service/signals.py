"""SIGTERM and SIGINT: drain and leave, within a time limit."""

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
    Python runs its handlers between two instructions of the main thread, so a main thread that is blocked inside a library
    would run none. Here a thread receives the signal from the operating system through a pipe, and measures the time.

    Main thread only.
    source: signal.set_wakeup_fd in the Python standard library
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = {number: signal.signal(number, _ignored) for number in (signal.SIGTERM, signal.SIGINT)}
    wakeup_before = signal.set_wakeup_fd(sender.fileno())
    watch = threading.Thread(target=_watch, args=(receiver, stop, drain_timeout_s), name="signals", daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        sender.close()
        watch.join()
        receiver.close()


def _ignored(number: int, frame: object) -> None:
    """A handler must exist, or the signal would end the process before the thread receives it."""


def _watch(receiver: socket.socket, stop: Event, drain_timeout_s: float) -> None:
    """Wait for signals until the other end closes, that is, until the context is left."""
    interrupts = 0
    while True:
        try:
            numbers = receiver.recv(64)
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
            logger.info("stop requested: draining", extra={"drain_timeout_s": drain_timeout_s})
            stop.set()
            receiver.settimeout(drain_timeout_s)
