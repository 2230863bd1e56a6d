"""What one Alertmanager is still to be told, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from detector.adapters.alertmanager.alert_queue import SEND_DELAY_S, WAIT_INTERVALS, WAIT_INTERVALS_RESTORED, AlertQueue, QueuedAlert
from detector.core.alerts import Alert
from detector.core.readings import Partition

INTERVAL_S = 60.0
P = (Partition("sensors", 0), Partition("sensors", 1))


def alert(
    stream: str,
    status: Literal["opened", "updated", "closed"] = "opened",
    severity: Literal["warning", "critical"] = "warning",
    episode: int = 0,
    partition: Partition = P[0],
    offset: int = 0,
) -> Alert:
    return Alert(
        f"{stream} {episode}", status, "score", "evidence", severity, stream, 0, 0, 1.0, 0.1, (), partition, offset, 0
    )  # fmt: skip


def due(queue: AlertQueue, now_s: float, *behind: Partition) -> list[QueuedAlert]:
    return queue.due(now_s, behind.__contains__)


def send(queue: AlertQueue, now_s: float, *behind: Partition) -> list[tuple[str, str]]:
    """All that is due is taken: stream and what was told of it."""
    sent = due(queue, now_s, *behind)
    queue.accepted(sent, now_s)
    return [(queued.alert.stream, "closed" if queued.closed else queued.alert.status) for queued in sent]


def test_an_open_alert_is_sent_soon_and_again_every_interval() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 100.0)
    assert send(queue, 100.0) == []
    assert send(queue, 100.0 + SEND_DELAY_S) == [("pump", "opened")]
    assert send(queue, 160.0) == []
    assert send(queue, 161.0) == [("pump", "opened")]


def test_an_update_is_sent_at_once_and_an_end_until_it_is_taken() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 0.0)
    assert send(queue, 1.0) == [("pump", "opened")]
    queue.update(alert("pump", "updated"), 5.0)
    assert send(queue, 6.0) == [("pump", "updated")]
    queue.update(alert("pump", "closed"), 10.0)
    assert [(queued.closed is not None, queued.ended_s) for queued in due(queue, 11.0)] == [(True, 10.0)]
    assert send(queue, 5_000.0) == [("pump", "closed")]  # nobody took it for over an hour
    assert len(queue) == 0


def test_what_closed_before_it_was_sent_is_never_sent() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 0.0)
    queue.update(alert("pump", "closed"), 0.5)
    assert (send(queue, 1e6), len(queue)) == ([], 0)


def test_what_changed_while_it_was_sent_is_sent_as_it_is_now() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 0.0)
    on_its_way = due(queue, 1.0)
    queue.update(alert("pump", "closed"), 1.1)
    queue.accepted(on_its_way, 1.2)
    assert send(queue, 2.1) == [("pump", "closed")]


def test_a_new_alert_waits_while_its_partition_is_behind_but_not_for_ever() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 0.0)
    queue.update(alert("fan", partition=P[1]), 0.0)
    assert send(queue, 10.0, P[0]) == [("fan", "opened")]
    assert send(queue, WAIT_INTERVALS * INTERVAL_S - 1, P[0], P[1]) == [("fan", "opened")]  # what was told once is told on
    assert ("pump", "opened") in send(queue, WAIT_INTERVALS * INTERVAL_S, P[0])


def test_what_is_restored_is_sent_at_once_or_an_interval_later_and_ends_even_if_it_was_not_sent() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.restored([alert("pump"), alert("fan", partition=P[1])], 0.0)
    assert send(queue, 0.0, P[1]) == [("pump", "opened")]
    queue.update(alert("fan", "closed", partition=P[1]), 2.0)  # the worker before may have told it
    assert send(queue, 3.0, P[1]) == [("fan", "closed")]
    queue.restored([alert("pump"), alert("saw")], 4.0)
    assert send(queue, 4.0 + WAIT_INTERVALS_RESTORED * INTERVAL_S, P[0]) == [("pump", "opened"), ("saw", "opened")]


def test_restoring_keeps_what_is_known_and_drops_what_is_not_open_any_more() -> None:
    queue = AlertQueue(INTERVAL_S)
    for stream in ("pump", "fan"):
        queue.update(alert(stream, offset=7), 0.0)
    send(queue, 1.0)
    queue.restored([alert("pump")], 2.0)
    assert [queued.alert.offset for queued in due(queue, 61.0)] == [7]


def test_an_episode_after_another_is_one_alert_and_its_end_is_told() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 0.0)
    send(queue, 1.0)
    queue.update(alert("pump", "closed"), 2.0)
    queue.update(alert("pump", episode=1), 2.5)
    assert [queued.closed for queued in due(queue, 3.5, P[0])] == []
    queue.update(alert("pump", "closed", episode=1), 4.0)  # not sent, but Alertmanager still knows the one before
    assert send(queue, 5.0) == [("pump", "closed")]


def test_restoring_takes_the_episode_that_is_open_now() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 0.0)
    send(queue, 1.0)
    queue.restored([alert("pump", episode=1)], 2.0)
    assert [queued.alert.id for queued in due(queue, 2.0)] == ["pump 1"]


def test_partitions_that_left_are_another_workers_to_tell_but_not_what_ended_before() -> None:
    queue = AlertQueue(INTERVAL_S)
    for stream, partition in (("pump", P[0]), ("saw", P[0]), ("fan", P[1])):
        queue.update(alert(stream, partition=partition), 0.0)
    send(queue, 1.0)
    queue.update(alert("saw", "closed"), 2.0)
    queue.forget([P[0]])
    assert send(queue, 100.0) == [("saw", "closed"), ("fan", "opened")]


def test_an_alert_that_becomes_critical_ends_as_a_warning() -> None:
    queue = AlertQueue(INTERVAL_S)
    queue.update(alert("pump"), 0.0)
    send(queue, 1.0)
    queue.update(alert("pump", "updated", "critical"), 5.0)
    sent = due(queue, 6.0, P[0])  # as known as the warning was: it does not wait
    assert [(queued.alert.severity, queued.closed is not None) for queued in sent] == [("warning", True), ("critical", False)]
    queue.accepted(sent, 6.0)
    queue.update(alert("pump", "closed", "critical"), 10.0)
    assert send(queue, 11.0) == [("pump", "closed")]
    assert len(queue) == 0


def test_a_refused_alert_is_dropped_and_so_is_what_does_not_fit() -> None:
    queue = AlertQueue(INTERVAL_S, alerts_max=2)
    for stream in ("pump", "fan", "saw"):
        queue.update(alert(stream), 0.0)
    assert (queue.dropped, len(queue)) == (1, 2)
    queue.rejected(due(queue, 1.0)[0])
    assert (queue.dropped, send(queue, 1.0)) == (2, [("fan", "opened")])


STREAMS = [("a", P[0]), ("b", P[0]), ("c", P[1])]
DEEDS = st.sampled_from(["open", "worsen", "close", "send", "send in vain", "wait", "restore", "forget"])


@given(st.lists(st.tuples(DEEDS, st.integers(0, 2), st.booleans()), max_size=60))
def test_whatever_happens_alertmanager_knows_in_the_end_what_is_open_and_what_is_not(deeds: list[tuple[str, int, bool]]) -> None:
    queue, now_s, episodes = AlertQueue(INTERVAL_S), 0.0, 0
    is_open: dict[str, Alert] = {}
    told: dict[tuple[str, str], tuple[Alert, bool]] = {}  # what Alertmanager has heard last: the alert, and whether it is over
    others: set[tuple[str, str]] = set()  # another worker's to tell

    def tell(behind: tuple[Partition, ...], *, are_answered: bool) -> None:
        sent = due(queue, now_s, *behind)
        told.update({(queued.alert.stream, queued.alert.severity): (queued.alert, queued.closed is not None) for queued in sent})
        if are_answered:
            queue.accepted(sent, now_s)

    for number, (deed, which, flag) in enumerate(deeds):
        (stream, partition), now_s = STREAMS[which], now_s + 0.1
        known = is_open.get(stream)
        if deed == "open" and known is None:
            episodes += 1
            is_open[stream] = alert(stream, "opened", "critical" if flag else "warning", episodes, partition, number)
            queue.update(is_open[stream], now_s)
        elif deed == "worsen" and known is not None:
            is_open[stream] = replace(known, status="updated", severity="critical" if flag else known.severity, offset=number)
            queue.update(is_open[stream], now_s)
        elif deed == "close" and known is not None:
            queue.update(replace(is_open.pop(stream), status="closed"), now_s)
        elif deed.startswith("send"):
            tell((P[0],) if flag else (), are_answered=deed == "send")
        elif deed == "wait":
            now_s += 30.0
        elif deed == "restore":
            queue.restored(is_open.values(), now_s)
        elif deed == "forget":
            queue.forget([partition])
            for name in [name for name, each in is_open.items() if each.partition == partition]:
                others |= {(name, "warning"), (name, "critical")}
                del is_open[name]
    now_s += WAIT_INTERVALS * INTERVAL_S
    tell(P, are_answered=True)
    assert len(queue) == len(is_open)
    for alert_ in is_open.values():
        heard, is_over = told[alert_.stream, alert_.severity]
        assert (heard.id, heard.offset, is_over) == (alert_.id, alert_.offset, False)
    for (stream, severity), (_, is_over) in told.items():
        is_now = stream in is_open and is_open[stream].severity == severity
        assert is_over or is_now or (stream, severity) in others
