"""What is done to the topics themselves, in rounds of their own: each begins and ends with a site at rest, so that it is known exactly
what must hold (`tests/simulation/changes.py` says it): a log that is another one is judged as by a new group, from where it differs; of
what retention took the workers say what they missed, and all else is as if the log had never held it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from confluent_kafka.admin import AdminClient

from detector.adapters.kafka.topics import create_topics
from tests.broker.changes import delete_topics, make_anew, retain_from
from tests.chaos.comparison import Comparison, Counts
from tests.chaos.site import INPUT
from tests.chaos.source import PARTITIONS, TOPIC, Source
from tests.chaos.witness import READ_UNCOMMITTED, Trouble, ends

NOTICE_S_MAX = 30.0

Change: TypeAlias = Callable[[Comparison, Source, random.Random], None]


def retention(compared: Comparison, source: Source, rng: random.Random) -> None:
    """It passes workers that run, but are slow for a moment."""
    site, ends = compared.site, compared.ends
    for worker in site.workers:
        worker.pause()
    compared.write(source.burst())
    compared.take()
    to = {(TOPIC, number): rng.randint(ends[number] + 1, end) for number, end in enumerate(compared.ends) if end > ends[number]}
    retain_from(site.broker.bootstrap_servers, to)
    for worker in site.workers:
        worker.go_on()


def made_anew(compared: Comparison, source: Source, rng: random.Random) -> None:
    """The input, under workers that run; the new log is as long as the old one, or longer."""
    lengths, is_longer = compared.ends, rng.random() < 0.5
    make_anew(compared.site.broker.bootstrap_servers, INPUT)
    compared.begin_anew(dict.fromkeys(range(PARTITIONS), 0))
    compared.write(source.anew(lengths, is_longer=is_longer))


def made_anew_while_stopped(compared: Comparison, source: Source, rng: random.Random) -> None:
    """Likewise, and nobody sees it."""
    site = compared.site
    stopped = list(site.workers)
    for worker in stopped:
        site.kill(worker)
    made_anew(compared, source, rng)
    for worker in stopped:
        site.add_worker(worker.kind)


def truncated(compared: Comparison, source: Source, rng: random.Random) -> None:
    """Some partitions lose their last segment."""
    broker = compared.site.broker
    broker.stop()
    cut = rng.sample(range(PARTITIONS), rng.randint(1, PARTITIONS))
    for number in cut:
        broker.lose_last_segment(TOPIC, number)
    broker.start()
    # Where retention has passed, a log without its only segment goes on where retention was, not where the segment began.
    found = ends(AdminClient({"bootstrap.servers": broker.bootstrap_servers}), [(TOPIC, number) for number in cut], READ_UNCOMMITTED)
    compared.begin_anew({number: found[TOPIC, number] for number in cut})
    compared.write([*source.warm_up(), *source.burst()])


def missing(compared: Comparison, source: Source, rng: random.Random) -> None:
    """The input is gone for a while."""
    servers = compared.site.broker.bootstrap_servers
    delete_topics(servers, TOPIC)
    time.sleep(rng.uniform(0.0, 5.0))
    create_topics({"bootstrap.servers": servers}, [INPUT])
    compared.begin_anew(dict.fromkeys(range(PARTITIONS), 0))
    compared.write([*source.warm_up(), *source.burst()])


def state_missing(compared: Comparison, source: Source, rng: random.Random) -> None:
    """The state topic is gone for a while: nothing can be judged, and then everybody begins anew where they were."""
    site = compared.site
    servers, states = site.broker.bootstrap_servers, site.config.state_topics
    delete_topics(servers, *states.values())
    deadline = time.monotonic() + NOTICE_S_MAX
    while any(worker.metric("detector_input_topics_missing") != 1 for worker in site.workers):
        if time.monotonic() > deadline:
            raise Trouble(f"{NOTICE_S_MAX:g} s after the state topic was deleted not all workers have noticed")
        time.sleep(0.1)
    compared.write([*source.warm_up(), *source.burst()])
    create_topics({"bootstrap.servers": servers}, [], state=states)
    compared.begin_anew(dict(enumerate(compared.ends)), with_state=True)


CHANGES: Mapping[str, Change] = {
    "retention": retention,
    "topic made anew": made_anew,
    "topic made anew while all are stopped": made_anew_while_stopped,
    "log truncated": truncated,
    "topic missing": missing,
    "state topic missing": state_missing,
}


def change(kind: str, compared: Comparison, source: Source, rng: random.Random) -> Counts:
    """One change, from rest to rest.

    returns  what was expected
    raises Trouble  the site did not come to rest, or a worker ended
    """
    compared.rest()
    site = compared.site
    restarts, before = len(site.restarts), site.accounted()
    CHANGES[kind](compared, source, rng)
    counts = compared.rest()
    compared.account(before, counts.messages)
    if ended := site.restarts[restarts:]:
        raise Trouble(f"{len(ended)} workers ended: {ended[0]}")
    return counts
