"""Rounds of readings with one disturbance in the middle of each, and the comparison with an undisturbed run.

    python -m tests.chaos.chaos [--rounds 200] [--seed 1] [--static]        or: make chaos ROUNDS=200 SEED=1 STATIC=1

Static members, workers with lasting names, go through longer outages as well, and are replaced while they hang.

Rounds of another kind change the topics themselves, with the site at rest before and after (`changes`).

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
from tests.chaos.changes import CHANGES, change
from tests.chaos.comparison import Comparison
from tests.chaos.disturbances import KINDS, STATIC_KINDS, kinds
from tests.chaos.site import Site
from tests.chaos.source import Source
from tests.chaos.witness import Trouble

WORKERS = 2
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
    """A run over a site.

    folder                for the broker's data, configurations and logs
    rounds                at most
    delivery, interval_s, is_static  of the workers
    """

    def __init__(
        self, folder: Path, seed: int, rounds: int, delivery: str = "exactly_once", interval_s: float = 1.0, *, is_static: bool = False
    ) -> None:
        self.seed = seed
        self.site = Site(folder, delivery, interval_s, is_static=is_static)
        self.compared = Comparison(self.site)
        self.source = Source(seed, rounds)

    def open(self, workers: int = WORKERS, kind: str = "") -> None:
        """Start everything, and let every stream settle. Workers are broken if a kind is named."""
        self.site.open(workers, kind)
        self.compared.open()
        self.compared.write(self.source.warm_up())
        self.compared.compare()

    def round(self, number: int, kind: str) -> Round:
        """One burst, one disturbance.

        raises Trouble  the site did not come to rest, or something ended that must not
        """
        rng = random.Random(f"round/{self.seed}/{number}")
        done = Round(number, kind, rng.uniform(0.0, BURST_S))
        begun_s, restarts, broker = time.monotonic(), len(self.site.restarts), self.site.broker
        markers, further_restarts = broker.markers_written, broker.further_restarts
        if kind in CHANGES:
            counts = change(kind, self.compared, self.source, rng)
        else:
            burst = self.source.burst()
            with ThreadPoolExecutor() as beside:
                writing = beside.submit(self.compared.write, burst, BURST_S)
                time.sleep(done.moment_s)
                STATIC_KINDS[kind](self.site, rng)
                writing.result()
            counts = self.compared.compare()
        done.messages, done.alerts, done.dead_letters = counts
        done.seconds, done.restarts = time.monotonic() - begun_s, self.site.restarts[restarts:]
        done.markers, done.further_restarts = broker.markers_written - markers, broker.further_restarts - further_restarts
        return done

    def calm_round(self) -> None:
        """One burst, and nothing else happens."""
        self.compared.write(self.source.burst(), BURST_S)
        self.compared.compare()

    def finish(self) -> None:
        """All workers leave in order; what they leave behind is compared."""
        for worker in list(self.site.workers):
            self.site.remove(worker)
        self.compared.finish()

    def close(self) -> None:
        """End everything at once."""
        self.site.close()


def run(folder: Path, seed: int, rounds: int, delivery: str = "exactly_once", *, is_static: bool = False) -> Iterator[str]:
    """The run as lines; the last one is the sum.

    raises Trouble  with what is known of a failure, and how to repeat it
    """
    chaos = Chaos(folder, seed, rounds, delivery, is_static=is_static)
    advice = f"repeat it: make chaos ROUNDS={rounds} SEED={seed}{' STATIC=1' if is_static else ''}; logs and data: {folder}"
    number = 0
    try:
        chaos.open()
        for number, kind in enumerate(itertools.islice(kinds(seed, [*(STATIC_KINDS if is_static else KINDS), *CHANGES]), rounds), 1):
            yield str(chaos.round(number, kind))
            if chaos.compared.difference:
                break
        else:
            chaos.finish()
    except Exception as error:
        tails = chaos.site.log_tails()
        raise Trouble(f"round {number} failed: {error}\n{tails}\n{advice}") from error
    finally:
        chaos.close()
    found = chaos.compared.difference
    yield (
        f"rounds {number}, alerts {chaos.compared.alerts}, lost {found.lost}, repeated {found.repeated}, "
        f"differing {found.differing}, silent {found.silent}"
    )
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
