"""A real broker whose workers reach it through proxies only."""

from __future__ import annotations

from pathlib import Path

from deploy.kafka.local_kafka import Listener, LocalKafka
from tests.chaos.markers import write_forgotten
from tests.chaos.proxy import HOST, Mode, Proxies

SETTINGS = {
    # A transaction whose worker is gone is ended within its own time-out and this interval, instead of 10 s.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "250",
}


class ProxiedKafka(LocalKafka):
    """One node with a listener per proxy: whoever asks through a proxy is told the proxy's address.

    data   folder for logs and settings
    count  how many proxies

    markers_written  in the broker's place
    """

    def __init__(self, data: Path, count: int) -> None:
        self.proxies = Proxies(count)
        self.markers_written = 0
        names = [f"WORKER{number}" for number in range(count)]
        advertised = ",".join(f"{name}://{HOST}:{port}" for name, port in zip(names, self.proxies.ports, strict=True))
        super().__init__(data, listeners={name: Listener("PLAINTEXT") for name in names}, settings=SETTINGS)
        self._further["advertised.listeners"] = f"PLAINTEXT://{self.bootstrap_servers},{advertised}"
        self.proxies.lead_to([int(self.servers[name].rpartition(":")[2]) for name in names])

    def start(self) -> None:
        """See `LocalKafka`. Workers are let in when all that was decided before is written."""
        log_start = self.server_log.stat().st_size if self.server_log.exists() else 0
        for number in range(len(self.proxies.ports)):
            self.proxies.set(number, Mode.CUT)
        super().start()
        self.markers_written += write_forgotten(self.bootstrap_servers, self._log_since(log_start))
        for number in range(len(self.proxies.ports)):
            self.proxies.set(number, Mode.PASS)

    def close(self) -> None:
        """End the broker and its proxies."""
        self.kill()
        self.proxies.close()
