"""A real broker whose workers reach it through proxies only."""

from __future__ import annotations

from pathlib import Path

from deploy.kafka.local_kafka import Listener, LocalKafka
from tests.chaos.markers import write_forgotten
from tests.chaos.proxy import HOST, Mode, Proxies
from tests.chaos.source import TOPIC
from tests.chaos.witness import tells_offsets

SETTINGS = {
    # A transaction whose worker is gone is ended within its own time-out and this interval, instead of 10 s.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "250",
}


class ProxiedKafka(LocalKafka):
    """One node with a listener per proxy: whoever asks through a proxy is told the proxy's address.

    data   folder for logs and settings
    count  how many proxies
    group  whose offsets have to be told before workers are let in

    markers_written   in the broker's place
    further_restarts  because it did not tell the group's offsets
    """

    def __init__(self, data: Path, count: int, group: str) -> None:
        self.proxies = Proxies(count)
        self.markers_written = self.further_restarts = 0
        self._group = group
        names = [f"WORKER{number}" for number in range(count)]
        advertised = ",".join(f"{name}://{HOST}:{port}" for name, port in zip(names, self.proxies.ports, strict=True))
        super().__init__(data, listeners={name: Listener("PLAINTEXT") for name in names}, settings=SETTINGS)
        self._further["advertised.listeners"] = f"PLAINTEXT://{self.bootstrap_servers},{advertised}"
        self.proxies.lead_to([int(self.servers[name].rpartition(":")[2]) for name in names])

    def start(self) -> None:
        """See `LocalKafka`. Workers are let in when all that was decided before is written and known."""
        self._let(Mode.CUT)
        self._start_once()
        # Kafka 4.3.0 loads a group's coordinator twice when a lone node comes back. One that is loading for the first time when the end
        # of a transaction is written for the second's term misses it, and takes the offsets for undecided until it is loaded anew; and
        # it may never learn how far its log is committed: it then tells what was so at the last of each 16,384 records.
        while self._has_topics() and not tells_offsets(self.bootstrap_servers, self._group):
            self.further_restarts += 1
            self.stop()
            self._start_once()
        self._let(Mode.PASS)

    def _start_once(self) -> None:
        log_start = self.server_log.stat().st_size if self.server_log.exists() else 0
        super().start()
        self.markers_written += write_forgotten(self.bootstrap_servers, self._log_since(log_start))

    def _let(self, mode: Mode) -> None:
        for number in range(len(self.proxies.ports)):
            self.proxies.set(number, mode)

    def _has_topics(self) -> bool:
        return any((self.data / "logs").glob(f"{TOPIC}-*"))

    def close(self) -> None:
        """End the broker and its proxies."""
        self.kill()
        self.proxies.close()
