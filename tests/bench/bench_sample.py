"""How long looking at a large topic takes: `python -m tests.bench.bench_sample --messages 10_000_000` on the broker that
KAFKA_BOOTSTRAP_SERVERS names (localhost:9092 without it)."""

from __future__ import annotations

import argparse
import json
import os
import time
import uuid

from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topic_sample import sample_topic
from detector.adapters.kafka.topic_settings import Topic
from detector.adapters.kafka.topics import create_topics
from tests.broker.changes import delete_topics


def main() -> None:
    """Fill a topic, sample it five times, delete it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--partitions", type=int, default=12)
    asked = parser.parse_args()
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    properties = {"bootstrap.servers": servers, "compression.type": "lz4", "linger.ms": "50"}
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    create_topics(properties, [Topic(topic, asked.partitions)])
    try:
        began_s = time.monotonic()
        with TopicWriter(properties, topic) as writer:
            for number in range(asked.messages):
                writer.write(b"m%d" % (number % 1_000), b'{"t":%d.5,"ts":%d}' % (number % 100, number), partition=number % asked.partitions)
        print(f"{asked.messages:,} messages written in {time.monotonic() - began_s:.0f} s")
        taken_s = []
        for _ in range(5):
            began_s = time.monotonic()
            found = sample_topic(properties, topic)
            taken_s.append(time.monotonic() - began_s)
        print(json.dumps({"messages": len(found.messages), "held": found.held, "seconds": [round(each, 2) for each in sorted(taken_s)]}))
    finally:
        delete_topics(servers, topic)


if __name__ == "__main__":
    main()
