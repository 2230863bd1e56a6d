"""Rounds of readings with one disturbance in the middle of each, and the comparison with an undisturbed run.

    python -m tests.chaos.chaos [--rounds 200] [--seed 1] [--static]        or: make chaos ROUNDS=200 SEED=1 STATIC=1

Static members, workers with lasting names, go through longer outages as well, and are replaced while they hang.

The disturbances, their victims and the readings follow from the seed; the moments of real processes do not repeat exactly.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deploy.kafka.local_kafka import LocalKafkaError
from tests.chaos.disturbances import KINDS, STATIC_KINDS, kinds
from tests.chaos.memories import Memories
from tests.chaos.oracle import Difference, Ledger, Undisturbed, alert_name, dead_letter_name
from tests.chaos.site import GROUP, Site
from tests.chaos.source import TOPIC, Sent, Source
from tests.chaos.witness import Reader, Trouble, Writer

WORKERS = 2
ROUND_S_MAX = 120.0  # a broker alone takes half a minute to come back where several test runs share two cores
BURST_S = 1.2


@dataclass(slots=True)
class Round:
    """What a round was, and what it brought."""

    number: int
    kind: str
    moment_s: float
    seconds: float = 0.0
    messages: int = 0
    alerts: int = 0
    dead_letters: int = 0
    restarts: list[str] = field(default_factory=list)
    markers: int = 0
    further_restarts: int = 0

    def __str__(self) -> str:
        restarts = "".join(f", started again after: {reason}" for reason in self.restarts)
        restarts += f", markers that the broker forgot: {self.markers}" if self.markers else ""
        restarts += f", broker started again: {self.further_restarts}" if self.further_restarts else ""
        return (
            f"round {self.number}: {self.kind} at {self.moment_s:.2f} s, {self.seconds:.1f} s, messages {self.messages}, "
            f"alerts {self.alerts}, dead letters {self.dead_letters}{restarts}"
        )


class Chaos:
    """A run over a site: the same readings go to the site and to the oracle, and what they tell is compared.

    folder                for the broker's data, configurations and logs
    rounds                at most
    delivery, interval_s, is_static  of the workers
    """

    def __init__(
        self, folder: Path, seed: int, rounds: int, delivery: str = "exactly_once", interval_s: float = 1.0, *, is_static: bool = False
    ) -> None:
        self.seed = seed
        self.alerts = 0
        self.difference = Difference()
        self._committed: list[int] = []
        self.site = Site(folder, delivery, interval_s, is_static=is_static)
        self._source = Source(seed, rounds)
        self._undisturbed = Undisturbed(self.site.model, self.site.config)
        self._alerts, self._dead_letters = Ledger("alert", alert_name), Ledger("dead letter", dead_letter_name)
        config = self.site.config
        self._ledgers = {config.alerts_topic: self._alerts, config.dead_letters_topic: self._dead_letters}
        self._memories = Memories(self._undisturbed)

    def open(self, workers: int = WORKERS, kind: str = "") -> None:
        """Start everything, and let every stream settle. Workers are broken if a kind is named."""
        self.site.open(workers, kind)
        servers, config = self.site.broker.bootstrap_servers, self.site.config
        self._writer = Writer(servers)
        self._input = Reader(servers, [TOPIC], GROUP)
        self._outputs = Reader(servers, [config.alerts_topic, config.dead_letters_topic, *config.state_topics.values()])
        self.write(self._source.warm_up(), 0.0)
        self.compare()

    def round(self, number: int, kind: str) -> Round:
        """One burst, one disturbance.

        raises Trouble  the site did not come to rest, or something ended that must not
        """
        rng = random.Random(f"round/{self.seed}/{number}")
        done = Round(number, kind, rng.uniform(0.0, BURST_S))
        begun_s, restarts, broker = time.monotonic(), len(self.site.restarts), self.site.broker
        markers, further_restarts = broker.markers_written, broker.further_restarts
        burst = self._source.burst()
        with ThreadPoolExecutor() as beside:
            writing = beside.submit(self.write, burst, BURST_S)
            time.sleep(done.moment_s)
            STATIC_KINDS[kind](self.site, rng)
            writing.result()
        done.messages, done.alerts, done.dead_letters = self.compare()
        done.seconds, done.restarts = time.monotonic() - begun_s, self.site.restarts[restarts:]
        done.markers, done.further_restarts = broker.markers_written - markers, broker.further_restarts - further_restarts
        return done

    def calm_round(self) -> None:
        """One burst, and nothing else happens."""
        self.write(self._source.burst(), BURST_S)
        self.compare()

    def write(self, burst: list[list[Sent]], seconds: float) -> None:
        """Write the burst, spread over so many seconds."""
        begun_s = time.monotonic()
        for number, tick in enumerate(burst):
            time.sleep(max(0.0, begun_s + seconds * number / len(burst) - time.monotonic()))
            self._writer.write(tick)
        self._writer.flush()

    def compare(self) -> tuple[int, int, int]:
        """Let the oracle judge what is new on the input, wait until the site has too, and compare.

        returns  how many messages, alerts and dead letters were expected
        raises Trouble  the site did not come to rest
        """
        deadline = time.monotonic() + ROUND_S_MAX
        messages = self._input.read(deadline)
        alerts, dead_letters = self._undisturbed.judge(messages)
        self._alerts.expect(alerts)
        self._dead_letters.expect(dead_letters)
        self.alerts += len(alerts)
        while not self._is_committed():
            if time.monotonic() > deadline:
                raise Trouble(f"offsets {self._committed} are committed, the input ends at {self._undisturbed.ends}")
            time.sleep(0.02)
        for message in self._outputs.read(deadline):
            self._ledgers.get(message.topic() or "", self._memories).find(message, self.difference)
        for ledger in self._ledgers.values():
            ledger.settle(self.difference)
        if unaccounted := self.site.unaccounted():
            raise Trouble(f"{unaccounted:g} readings have no disposition")
        return len(messages), len(alerts), len(dead_letters)

    def finish(self) -> None:
        """All workers leave in order; what they leave behind is compared."""
        for worker in list(self.site.workers):
            self.site.remove(worker)
        self.compare()
        self._memories.settle(self.difference)

    def close(self) -> None:
        """End everything at once."""
        self.site.close()

    def _is_committed(self) -> bool:
        self.site.supervise()
        self._committed, ends = self._input.committed(), self._undisturbed.ends
        if any(offset > end for offset, end in zip(self._committed, ends, strict=True)):
            raise Trouble(f"offsets beyond the input are committed: {self._committed}, it ends at {ends}")
        return self._committed == ends


def run(folder: Path, seed: int, rounds: int, delivery: str = "exactly_once", *, is_static: bool = False) -> Iterator[str]:
    """The run as lines; the last one is the sum.

    raises Trouble  with what is known of a failure, and how to repeat it
    """
    chaos = Chaos(folder, seed, rounds, delivery, is_static=is_static)
    advice = f"repeat it: make chaos ROUNDS={rounds} SEED={seed}{' STATIC=1' if is_static else ''}; logs and data: {folder}"
    number = 0
    try:
        chaos.open()
        for number, kind in enumerate(itertools.islice(kinds(seed, STATIC_KINDS if is_static else KINDS), rounds), 1):
            yield str(chaos.round(number, kind))
            if chaos.difference:
                break
        else:
            chaos.finish()
    except Exception as error:
        tails = chaos.site.log_tails()
        raise Trouble(f"round {number} failed: {error}\n{tails}\n{advice}") from error
    finally:
        chaos.close()
    found = chaos.difference
    yield f"rounds {number}, alerts {chaos.alerts}, lost {found.lost}, repeated {found.repeated}, differing {found.differing}"
    if found:
        raise Trouble("\n".join((*found.examples, advice)))


def main() -> int:
    """Run, print, and remove the data if all went well."""
    parser = argparse.ArgumentParser(description="Break a real Kafka, its network and the workers, and compare what they tell.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delivery", default="exactly_once", choices=["exactly_once", "at_least_once"])
    parser.add_argument("--static", action="store_true", help="workers with lasting names (group.instance.id)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        for line in run(folder, options.seed, options.rounds, options.delivery, is_static=options.static):
            print(line, flush=True)
    except (Trouble, LocalKafkaError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
