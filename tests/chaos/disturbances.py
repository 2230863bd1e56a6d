"""What is done to workers, broker and network in the middle of a round. Kind, victim and lengths follow from the seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeAlias

from tests.chaos.proxy import Mode
from tests.chaos.site import SESSION_S, Site

START_S_MAX = 30.0
END_S_MAX = 30.0

Disturbance: TypeAlias = Callable[[Site, random.Random], None]


def worker_killed(site: Site, rng: random.Random) -> None:
    site.kill(rng.choice(site.workers))
    site.add_worker()


def all_workers_killed(site: Site, rng: random.Random) -> None:
    count = len(site.workers)
    for worker in list(site.workers):
        site.kill(worker)
    for _ in range(count):
        site.add_worker()


def worker_added(site: Site, rng: random.Random) -> None:
    site.add_worker()


def worker_removed(site: Site, rng: random.Random) -> None:
    site.remove(rng.choice(site.workers))


def worker_replaced(site: Site, rng: random.Random) -> None:
    """A rolling restart: the new one joins while the old one leaves."""
    leaving = rng.choice(site.workers)
    site.add_worker()
    site.remove(leaving)


def worker_paused(site: Site, rng: random.Random) -> None:
    """Beyond its session: the others have its partitions when it goes on."""
    worker = rng.choice(site.workers)
    worker.pause()
    time.sleep(SESSION_S + rng.uniform(0.3, 1.5))
    worker.go_on()


def broker_killed(site: Site, rng: random.Random) -> None:
    site.broker.kill()
    site.broker.start()


def broker_restarted(site: Site, rng: random.Random) -> None:
    site.broker.stop()
    site.broker.start()


def broker_away(site: Site, rng: random.Random) -> None:
    """For longer than any session: members that come back are their own past's successors."""
    site.broker.kill()
    time.sleep(rng.uniform(3.0, 20.0))
    site.broker.start()


def worker_replaced_while_it_hangs(site: Site, rng: random.Random) -> None:
    """Another process has its name when it goes on, before or after the end of its session: it must end, and the other one go on."""
    old = rng.choice(site.workers)
    old.pause()
    new = site.add_worker(instance=old.instance)
    time.sleep(rng.uniform(0.5, 2 * SESSION_S))
    deadline = time.monotonic() + START_S_MAX
    while not new.has_partitions and time.monotonic() < deadline:
        time.sleep(0.05)
    old.go_on()
    site.see_it_end(old, END_S_MAX)


def _network(mode: Mode) -> Disturbance:
    def disturb(site: Site, rng: random.Random) -> None:
        worker = rng.choice(site.workers)
        site.broker.proxies.set(worker.proxy, mode)
        time.sleep(rng.uniform(0.2, 2 * SESSION_S))
        site.broker.proxies.set(worker.proxy, Mode.PASS)

    return disturb


KINDS: dict[str, Disturbance] = {
    "worker killed": worker_killed,
    "all workers killed": all_workers_killed,
    "worker added": worker_added,
    "worker removed": worker_removed,
    "worker replaced": worker_replaced,
    "worker paused": worker_paused,
    "broker killed": broker_killed,
    "broker restarted": broker_restarted,
    **{f"network {mode.value}": _network(mode) for mode in Mode if mode is not Mode.PASS},
}


STATIC_KINDS: dict[str, Disturbance] = {
    **KINDS,
    "broker away": broker_away,
    "worker replaced while it hangs": worker_replaced_while_it_hangs,
}
"""What static members go through."""


def kinds(seed: int, of: Collection[str]) -> Iterator[str]:
    """Every kind in turn, in an order of its own each time."""
    rng = random.Random(f"kinds/{seed}")
    while True:
        yield from rng.sample(sorted(of), len(of))
