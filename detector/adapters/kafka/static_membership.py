"""Whose a static member's name is: what decides whether a worker that was fenced comes back.

librdkafka ends a consumer for good (a fatal error) once the brokers have its `group.instance.id` under another member id. Mostly that
is the worker's own past. Its session times out while a broker is away; it drops its member id, waits for us to let go of the partitions,
and greets the broker that is back with a heartbeat of no member id, which is not the one that the broker has (its issue 3437).

Two protocols, two ways to tell. In the classic one whoever joins takes the name from its holder: so nobody joins again before the
group has told that the holder was this worker. With KIP-848 the brokers give a name to nobody while it is held: so trying does no harm.
A holder that is not this worker may be dead: its name is free when its session ends. If it is still there then, it is alive.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping

from confluent_kafka import KafkaException

from detector.adapters.kafka.admin import open_admin
from detector.adapters.kafka.client import LogCallback
from detector.adapters.kafka.errors import NAME_FIX, fix_for, kafka_error
from detector.errors import Fenced, LogUnavailable

ASK_S_MAX = 1.0
RETRY_S = 2.0
SESSION_MARGIN_S = 2.0  # a coordinator that has just loaded the group counts sessions from then on
NEW_PROTOCOL_SESSION_S = 60.0  # the brokers' own setting: group.consumer.session.timeout.ms, 45 s by default, 60 s at most by default
UNSEEN = "the brokers do not list the group"  # its coordinator has not loaded it yet, or it is no more
MEMBER_ID_SUFFIX = len("-01234567-89ab-cdef-0123-456789abcdef")  # brokers name a static member so: its name and a random UUID


class StaticMembership:
    """A worker's claim to its name.

    properties  the consumer's: with `group.instance.id`, and `session.timeout.ms` unless the protocol is KIP-848's
    group       its consumer group

    keeps_name  whether the brokers keep the name for its holder (KIP-848); else whoever joins takes it
    """

    def __init__(self, properties: Mapping[str, str], group: str, on_log: LogCallback) -> None:
        self.name = properties["group.instance.id"]
        self.keeps_name = properties.get("group.protocol") == "consumer"
        self._properties, self._group, self._on_log = properties, group, on_log
        self._session_s_max = (
            NEW_PROTOCOL_SESSION_S if self.keeps_name else float(properties["session.timeout.ms"]) / 1000 + SESSION_MARGIN_S
        )
        self._own_ids: set[str] = set()
        self._unknown = f"who has the name {self.name} is not known"
        self._holder = ""  # who had the name when last asked
        self._holder_since_s = self._asked_s = self._tried_s = -math.inf

    def add_member_id(self, member_id: str) -> None:
        """This worker is, or was, the member of that id."""
        if member_id:
            self._own_ids.add(member_id)

    def check_name_is_free(self) -> None:
        """Return if this worker may join again.

        raises LogUnavailable  another member has the name and may be dead, or nobody tells: ask again
        raises Fenced          it is alive: it had the name for longer than a session lasts
        """
        now_s = time.monotonic()
        holder = self._holder_by_trying(now_s) if self.keeps_name else self._holder_by_asking(now_s)
        if not holder:
            return
        if now_s - self._holder_since_s > self._session_s_max:
            raise Fenced(f"another worker runs under the same group.instance.id, {self.name}: {holder}", fix=NAME_FIX)
        raise LogUnavailable(f"the name {self.name} is taken: {holder}; waiting whether its session ends", fix=NAME_FIX)

    def _holder_by_trying(self, now_s: float) -> str:
        """The brokers' refusal is why this is asked: that the name is taken, or nothing if it is time to try again."""
        if now_s - self._asked_s > self._session_s_max:
            self._holder_since_s = now_s  # what was before is another story
        self._asked_s = now_s
        if now_s - self._tried_s < RETRY_S or now_s - self._holder_since_s > self._session_s_max:
            return f"the brokers keep it for another member of {self._group}"
        self._tried_s = now_s
        return ""

    def _holder_by_asking(self, now_s: float) -> str:
        """The member that has the name, or nothing if it is this worker or none.

        `list_groups`, although confluent_kafka would have us use its successor: that one sends its request to a coordinator, and
        librdkafka aborts the process if the connection breaks meanwhile (its pull request 5397). This one does not go that way.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                groups = open_admin(self._properties, self._on_log).list_groups(self._group, timeout=ASK_S_MAX)
        except KafkaException as exception:
            error, self._holder = kafka_error(exception), ""
            raise LogUnavailable(f"{self._unknown}: {error.str()}", fix=fix_for(error)) from None
        found = [group for group in groups if group.id == self._group and group.error is None]
        members = [(member.id or "", (member.client_host or "").lstrip("/")) for group in found for member in group.members]
        others = [(id_, host) for id_, host in members if id_[:-MEMBER_ID_SUFFIX] == self.name and id_ not in self._own_ids]
        holder = f"member {others[0][0]} at {others[0][1]} has it" if others else "" if found else UNSEEN
        if holder != self._holder:
            self._holder, self._holder_since_s = holder, now_s
        if holder != UNSEEN:
            return holder
        if now_s - self._holder_since_s <= self._session_s_max:
            raise LogUnavailable(f"{self._unknown}: {UNSEEN}", fix="wait: its coordinator may not have loaded it yet")
        return ""
