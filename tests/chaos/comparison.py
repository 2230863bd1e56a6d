"""The same readings go to the site and to the oracle, and what both tell is compared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Message as KafkaMessage

from tests.broker.changes import topic_id
from tests.chaos.oracle import Difference, Ledger, Undisturbed, alert_name, dead_letter_name
from tests.chaos.saved_state import SavedState
from tests.chaos.site import GROUP, Site
from tests.chaos.source import PARTITIONS, TOPIC, Sent
from tests.chaos.witness import Reader, Trouble, Writer

REST_S_MAX = 120.0  # a broker alone takes half a minute to come back where several test runs share two cores
LATE_S_MAX = 5.0


class Counts(NamedTuple):
    """How many messages the oracle judged, and what it made of them."""

    messages: int = 0
    alerts: int = 0
    dead_letters: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(self.messages + other.messages, self.alerts + other.alerts, self.dead_letters + other.dead_letters)


class Comparison:
    """What is written to the site's input, what an undisturbed run makes of it, and what of that lies on the topics.

    difference  found until now
    alerts      expected until now
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.difference = Difference()
        self.alerts = 0
        self._committed: list[int] = []
        self._unjudged: list[KafkaMessage] = []
        self._former: Mapping[int, int] = {}  # offsets that were committed in logs that are others by now
        self._undisturbed = Undisturbed(site.model, site.config)
        self._alerts, self._dead_letters = Ledger("alert", alert_name), Ledger("dead letter", dead_letter_name)
        self._ledgers = {site.config.alerts_topic: self._alerts, site.config.dead_letters_topic: self._dead_letters}
        self._saved_state = SavedState(self._undisturbed)

    def open(self) -> None:
        """The site runs."""
        self._servers, config = self.site.broker.bootstrap_servers, self.site.config
        self._writer = Writer(self._servers)
        self._input = Reader(self._servers, [TOPIC], GROUP)
        self._outputs = Reader(self._servers, [config.alerts_topic, config.dead_letters_topic, *config.state_topics.values()])
        self._topic_id = topic_id(self._servers, TOPIC)

    @property
    def ends(self) -> list[int]:
        """Where the input's partitions end, as far as they were read."""
        return [self._input.read_to[TOPIC, number] for number in range(PARTITIONS)]

    def write(self, burst: list[list[Sent]], seconds: float = 0.0) -> None:
        """Write the burst, spread over so many seconds."""
        begun_s = time.monotonic()
        for number, tick in enumerate(burst):
            time.sleep(max(0.0, begun_s + seconds * number / len(burst) - time.monotonic()))
            self._writer.write(tick)
        self._writer.flush()

    def take(self) -> None:
        """Read what is new on the input, to be judged with the next comparison."""
        self._unjudged += self._input.read(time.monotonic() + REST_S_MAX)

    def compare(self) -> Counts:
        """Wait until the site has judged what is on the input, let the oracle do so, and compare.

        returns  what was expected
        raises Trouble  the site did not come to rest
        """
        deadline = time.monotonic() + REST_S_MAX
        self.take()
        while not self._is_committed():
            if time.monotonic() > deadline:
                raise Trouble(f"offsets {self._committed} are committed, the input ends at {self.ends}")
            time.sleep(0.02)
        messages, self._unjudged = self._unjudged, []
        alerts, dead_letters = self._undisturbed.judge(messages, self.site.passed_over())
        self._alerts.expect(alerts)
        self._dead_letters.expect(dead_letters)
        self.alerts += len(alerts)
        late_s = time.monotonic() + LATE_S_MAX
        while True:
            for message in self._outputs.read(deadline):
                self._ledgers.get(message.topic() or "", self._saved_state).find(message, self.difference)
            if all(ledger.is_complete for ledger in self._ledgers.values()) or time.monotonic() > late_s:
                break
            time.sleep(0.05)
        for ledger in self._ledgers.values():
            ledger.settle(self.difference)
        if unaccounted := self.site.unaccounted():
            raise Trouble(f"{unaccounted:g} readings have no disposition")
        return Counts(len(messages), len(alerts), len(dead_letters))

    def rest(self) -> Counts:
        """Compare, and wait until all state is saved as well.

        raises Trouble  they are not
        """
        counts, deadline = self.compare(), time.monotonic() + REST_S_MAX
        while not self.difference and (wrong := self._saved_state.unsaved(self.ends, self._topic_id)):
            if time.monotonic() > deadline:
                raise Trouble(f"not saved: {wrong}")
            time.sleep(0.1)
            counts = counts.plus(self.compare())
        return counts

    def account(self, before: Mapping[str, float], messages: int) -> None:
        """Each message that came since must be among those that the workers say were judged, or missed.

        before  as `Site.accounted` told then
        """
        deadline = time.monotonic() + LATE_S_MAX
        while True:
            told = sum(count - before.get(name, 0.0) for name, count in self.site.accounted().items())
            if told == messages or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if told < messages:
            self.difference.silent += int(messages - told)
            self.difference.say(f"of {messages} messages the workers counted {told:g}")
        elif told > messages:
            self.difference.differing += 1
            self.difference.say(f"the workers counted {told:g} messages, of {messages}")

    def begin_anew(self, offsets: Mapping[int, int], *, with_state: bool = False) -> None:
        """From here on these partitions are judged as by a new group. What they told before was compared.

        offsets     per number of the partition: where its log goes on
        with_state  whether the state topics are new as well
        """
        self._former = dict(enumerate(self._committed))
        self._undisturbed.begin_anew(offsets)
        for ledger in self._ledgers.values():
            ledger.begin_anew(offsets)
        self._input.begin_anew({(TOPIC, number): offset for number, offset in offsets.items()})
        self._topic_id = topic_id(self._servers, TOPIC)
        self._writer = Writer(self._servers)
        if with_state:
            self._saved_state.begin_anew()
            self._outputs.begin_anew(
                {(topic, number): 0 for topic in self.site.config.state_topics.values() for number in range(PARTITIONS)}
            )

    def finish(self) -> None:
        """All workers have left in order; what they leave behind is compared."""
        self.compare()
        self._saved_state.settle(self.difference)

    def _is_committed(self) -> bool:
        self.site.supervise()
        self._committed, ends = self._input.committed(), self.ends
        if any(offset > ends[number] and offset != self._former.get(number) for number, offset in enumerate(self._committed)):
            raise Trouble(f"offsets beyond the input are committed: {self._committed}, it ends at {ends}")
        return self._committed == ends
