"""librdkafka's own mock broker in a process of its own: for the demo, where no Kafka is.

    python -m detector.adapters.kafka.mock_broker [TOPIC ...]

prints its bootstrap address as the first line and lives until its standard input closes or SIGTERM comes.

It speaks the real protocol, and is no Kafka: everything is in memory, some 5 MB per partition and no more (old messages go);
every topic has four partitions and comes into being when it is first named; there are no transactions worth the name, no look-up of
offsets by time, no CreateTopics, no authentication. A group forms after some 3 s, and a member that left is missed only when its
session times out: who comes back under the same group waits for that. Never test delivery against it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType, TracebackType

from confluent_kafka import Producer

from detector.errors import LogUnavailable


class MockBroker:
    """A mock broker as a child process; use as a context manager.

    topics             exist from the beginning
    bootstrap_servers  its address, once entered
    """

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = tuple(topics)
        self.bootstrap_servers = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> MockBroker:
        command = [sys.executable, "-m", "detector.adapters.kafka.mock_broker", *self._topics]
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        self.bootstrap_servers = self._process.stdout.readline().strip()
        if not self.bootstrap_servers:
            self.close()
            raise LogUnavailable(
                "the embedded mock broker did not start", fix="run `python -m detector.adapters.kafka.mock_broker` to see why"
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def main(topics: Sequence[str]) -> int:
    """Run the mock broker until standard input closes or SIGTERM comes."""

    def leave(_: int, __: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    # A client with this property starts a cluster inside itself and connects to that.
    cluster = Producer({"test.mock.num.brokers": "1", "log_level": "2"})
    brokers = cluster.list_topics(timeout=5).brokers.values()
    address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    visitor = Producer({"bootstrap.servers": address, "log_level": "2"})
    for topic in topics:
        visitor.list_topics(topic, timeout=5)  # naming a topic creates it
    print(address, flush=True)  # noqa: T201 - the answer
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
