"""What one Alertmanager is still to be told, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from detector.adapters.alertmanager.alert_queue import LINGER_S, WAIT_INTERVALS, WAIT_INTERVALS_RESTORED, Held, Outbox
from detector.core.alerting import Alert
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


def due(outbox: Outbox, now_s: float, *behind: Partition) -> list[Held]:
    return outbox.due(now_s, behind.__contains__)


def send(outbox: Outbox, now_s: float, *behind: Partition) -> list[tuple[str, str]]:
    """All that is due is taken: stream and what was told of it."""
    sent = due(outbox, now_s, *behind)
    outbox.taken(sent, now_s)
    return [(held.alert.stream, "closed" if held.closed else held.alert.status) for held in sent]


def test_an_open_alert_is_sent_soon_and_again_every_interval() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 100.0)
    assert send(outbox, 100.0) == []
    assert send(outbox, 100.0 + LINGER_S) == [("pump", "opened")]
    assert send(outbox, 160.0) == []
    assert send(outbox, 161.0) == [("pump", "opened")]


def test_an_update_is_sent_at_once_and_an_end_until_it_is_taken() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 0.0)
    assert send(outbox, 1.0) == [("pump", "opened")]
    outbox.note(alert("pump", "updated"), 5.0)
    assert send(outbox, 6.0) == [("pump", "updated")]
    outbox.note(alert("pump", "closed"), 10.0)
    assert [(held.closed is not None, held.ended_s) for held in due(outbox, 11.0)] == [(True, 10.0)]
    assert send(outbox, 5_000.0) == [("pump", "closed")]  # nobody took it for over an hour
    assert len(outbox) == 0


def test_what_closed_before_it_was_sent_is_never_sent() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 0.0)
    outbox.note(alert("pump", "closed"), 0.5)
    assert (send(outbox, 1e6), len(outbox)) == ([], 0)


def test_what_changed_while_it_was_sent_is_sent_as_it_is_now() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 0.0)
    on_its_way = due(outbox, 1.0)
    outbox.note(alert("pump", "closed"), 1.1)
    outbox.taken(on_its_way, 1.2)
    assert send(outbox, 2.1) == [("pump", "closed")]


def test_a_new_alert_waits_while_its_partition_is_behind_but_not_for_ever() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 0.0)
    outbox.note(alert("fan", partition=P[1]), 0.0)
    assert send(outbox, 10.0, P[0]) == [("fan", "opened")]
    assert send(outbox, WAIT_INTERVALS * INTERVAL_S - 1, P[0], P[1]) == [("fan", "opened")]  # what was told once is told on
    assert ("pump", "opened") in send(outbox, WAIT_INTERVALS * INTERVAL_S, P[0])


def test_what_is_restored_is_sent_at_once_or_an_interval_later_and_ends_even_if_it_was_not_sent() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.restored([alert("pump"), alert("fan", partition=P[1])], 0.0)
    assert send(outbox, 0.0, P[1]) == [("pump", "opened")]
    outbox.note(alert("fan", "closed", partition=P[1]), 2.0)  # the worker before may have told it
    assert send(outbox, 3.0, P[1]) == [("fan", "closed")]
    outbox.restored([alert("pump"), alert("saw")], 4.0)
    assert send(outbox, 4.0 + WAIT_INTERVALS_RESTORED * INTERVAL_S, P[0]) == [("pump", "opened"), ("saw", "opened")]


def test_restoring_keeps_what_is_known_and_drops_what_is_not_open_any_more() -> None:
    outbox = Outbox(INTERVAL_S)
    for stream in ("pump", "fan"):
        outbox.note(alert(stream, offset=7), 0.0)
    send(outbox, 1.0)
    outbox.restored([alert("pump")], 2.0)
    assert [held.alert.offset for held in due(outbox, 61.0)] == [7]


def test_an_episode_after_another_is_one_alert_and_its_end_is_told() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 0.0)
    send(outbox, 1.0)
    outbox.note(alert("pump", "closed"), 2.0)
    outbox.note(alert("pump", episode=1), 2.5)
    assert [held.closed for held in due(outbox, 3.5, P[0])] == []
    outbox.note(alert("pump", "closed", episode=1), 4.0)  # not sent, but Alertmanager still knows the one before
    assert send(outbox, 5.0) == [("pump", "closed")]


def test_restoring_takes_the_episode_that_is_open_now() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 0.0)
    send(outbox, 1.0)
    outbox.restored([alert("pump", episode=1)], 2.0)
    assert [held.alert.id for held in due(outbox, 2.0)] == ["pump 1"]


def test_partitions_that_left_are_another_workers_to_tell_but_not_what_ended_before() -> None:
    outbox = Outbox(INTERVAL_S)
    for stream, partition in (("pump", P[0]), ("saw", P[0]), ("fan", P[1])):
        outbox.note(alert(stream, partition=partition), 0.0)
    send(outbox, 1.0)
    outbox.note(alert("saw", "closed"), 2.0)
    outbox.forget([P[0]])
    assert send(outbox, 100.0) == [("saw", "closed"), ("fan", "opened")]


def test_an_alert_that_becomes_critical_ends_as_a_warning() -> None:
    outbox = Outbox(INTERVAL_S)
    outbox.note(alert("pump"), 0.0)
    send(outbox, 1.0)
    outbox.note(alert("pump", "updated", "critical"), 5.0)
    sent = due(outbox, 6.0, P[0])  # as known as the warning was: it does not wait
    assert [(held.alert.severity, held.closed is not None) for held in sent] == [("warning", True), ("critical", False)]
    outbox.taken(sent, 6.0)
    outbox.note(alert("pump", "closed", "critical"), 10.0)
    assert send(outbox, 11.0) == [("pump", "closed")]
    assert len(outbox) == 0


def test_a_refused_alert_is_dropped_and_so_is_what_does_not_fit() -> None:
    outbox = Outbox(INTERVAL_S, held_max=2)
    for stream in ("pump", "fan", "saw"):
        outbox.note(alert(stream), 0.0)
    assert (outbox.dropped, len(outbox)) == (1, 2)
    outbox.refused(due(outbox, 1.0)[0])
    assert (outbox.dropped, send(outbox, 1.0)) == (2, [("fan", "opened")])


STREAMS = [("a", P[0]), ("b", P[0]), ("c", P[1])]
DEEDS = st.sampled_from(["open", "worsen", "close", "send", "send in vain", "wait", "restore", "forget"])


@given(st.lists(st.tuples(DEEDS, st.integers(0, 2), st.booleans()), max_size=60))
def test_whatever_happens_alertmanager_knows_in_the_end_what_is_open_and_what_is_not(deeds: list[tuple[str, int, bool]]) -> None:
    outbox, now_s, episodes = Outbox(INTERVAL_S), 0.0, 0
    is_open: dict[str, Alert] = {}
    told: dict[tuple[str, str], tuple[Alert, bool]] = {}  # what Alertmanager has heard last: the alert, and whether it is over
    others: set[tuple[str, str]] = set()  # another worker's to tell

    def tell(behind: tuple[Partition, ...], *, are_answered: bool) -> None:
        sent = due(outbox, now_s, *behind)
        told.update({(held.alert.stream, held.alert.severity): (held.alert, held.closed is not None) for held in sent})
        if are_answered:
            outbox.taken(sent, now_s)

    for number, (deed, which, flag) in enumerate(deeds):
        (stream, partition), now_s = STREAMS[which], now_s + 0.1
        known = is_open.get(stream)
        if deed == "open" and known is None:
            episodes += 1
            is_open[stream] = alert(stream, "opened", "critical" if flag else "warning", episodes, partition, number)
            outbox.note(is_open[stream], now_s)
        elif deed == "worsen" and known is not None:
            is_open[stream] = replace(known, status="updated", severity="critical" if flag else known.severity, offset=number)
            outbox.note(is_open[stream], now_s)
        elif deed == "close" and known is not None:
            outbox.note(replace(is_open.pop(stream), status="closed"), now_s)
        elif deed.startswith("send"):
            tell((P[0],) if flag else (), are_answered=deed == "send")
        elif deed == "wait":
            now_s += 30.0
        elif deed == "restore":
            outbox.restored(is_open.values(), now_s)
        elif deed == "forget":
            outbox.forget([partition])
            for name in [name for name, each in is_open.items() if each.partition == partition]:
                others |= {(name, "warning"), (name, "critical")}
                del is_open[name]
    now_s += WAIT_INTERVALS * INTERVAL_S
    tell(P, are_answered=True)
    assert len(outbox) == len(is_open)
    for alert_ in is_open.values():
        heard, is_over = told[alert_.stream, alert_.severity]
        assert (heard.id, heard.offset, is_over) == (alert_.id, alert_.offset, False)
    for (stream, severity), (_, is_over) in told.items():
        is_now = stream in is_open and is_open[stream].severity == severity
        assert is_over or is_now or (stream, severity) in others
