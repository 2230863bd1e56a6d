"""Late, double and damaged messages."""

from __future__ import annotations

from collections import Counter

from detector.lab.faulty_network import FaultyNetwork, KeyValue

MESSAGES: list[KeyValue] = [(b"s%d" % (i % 10), b'{"time":%d,"value":1}' % i) for i in range(5_000)]


def carried(cut: int, seed: int = 1) -> list[KeyValue]:
    network = FaultyNetwork(seed, late=0.02, duplicates=0.03, malformed=0.01, delay_messages=20)
    arrived = [m for start in range(0, len(MESSAGES), cut) for m in network.carry(MESSAGES[start : start + cut])]
    return arrived + list(network.rest())


def test_the_cut_and_only_the_seed() -> None:
    assert carried(7) == carried(5_000) == carried(1)
    assert carried(7) != carried(7, seed=2)


def test_nothing_is_lost_and_the_shares_are_kept() -> None:
    count = Counter(carried(100))
    sent = Counter(MESSAGES)
    assert all(count[message] >= 1 for message in sent)
    doubles = sum(count[message] == 2 for message in sent)
    damaged = sum(n for message, n in count.items() if message not in sent)
    assert 100 < doubles < 200
    assert 25 < damaged < 80


def test_late_messages_come_after_newer_ones_of_their_stream() -> None:
    newest: dict[bytes, int] = {}
    late = 0
    order = {message: i for i, message in enumerate(MESSAGES)}
    for message in carried(100):
        if message in order:
            late += order[message] < newest.get(message[0], -1)
            newest[message[0]] = max(order[message], newest.get(message[0], -1))
    assert 60 < late < 150


def test_a_perfect_network_changes_nothing() -> None:
    assert list(FaultyNetwork(1).carry(MESSAGES)) == MESSAGES
