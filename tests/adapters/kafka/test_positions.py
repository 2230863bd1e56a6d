"""Where partitions stand, and what may still be committed."""

from __future__ import annotations

import pytest

from detector.adapters.kafka.epochs import LeaderEpochs, OffsetAndEpoch
from detector.adapters.kafka.positions import Positions
from detector.adapters.kafka.topic_watch import PendingTopics, TopicInfo
from detector.core.readings import Partition
from detector.errors import CommitAborted
from detector.ports import PartitionPosition

A0, A1 = Partition("a", 0), Partition("a", 1)


class Answered(PendingTopics):
    def __init__(self, **found: TopicInfo) -> None:
        super().__init__({})
        self._found = found

    def result(self) -> dict[str, TopicInfo]:
        return self._found


class Noted:
    """Positions of two partitions of log A, of which one is committed; `changes`: how often a topic was found changed."""

    def __init__(self) -> None:
        epochs = LeaderEpochs()
        epochs.restored(A0, OffsetAndEpoch(5, 7), is_known=False)
        self.changes = 0
        self.positions = Positions(epochs, self.note)
        self.positions.restored({A0: PartitionPosition(5, log_id="A"), A1: PartitionPosition(3, is_committed=False, log_id="A")})

    def note(self) -> None:
        self.changes += 1


def test_what_is_committed_is_known_with_its_epoch() -> None:
    positions = Noted().positions
    assert positions.committed([A0, A1]) == {A0: OffsetAndEpoch(5, 7)}
    positions.advance({A1: 4, Partition("b", 0): 9})
    assert positions.committed([A0, A1]) == {A0: OffsetAndEpoch(5, 7), A1: OffsetAndEpoch(4, -1)}
    (offset,) = positions.to_commit({A0: 6}, "plant.worker-0")
    assert (offset.topic, offset.partition, offset.offset, offset.metadata, offset.leader_epoch) == ("a", 0, 6, "plant.worker-0", 7)


def test_a_revoked_partition_is_not_committed() -> None:
    positions = Noted().positions
    positions.check_owned([A0, A1])
    positions.drop([A1])
    assert positions.partitions() == [A0]
    with pytest.raises(CommitAborted, match="a 1 is not this worker's any more"):
        positions.check_owned([A0, A1])


@pytest.mark.parametrize("found", [TopicInfo("B", 2), TopicInfo("", 0)], ids=["made anew", "gone"])
def test_what_was_read_of_another_log_is_not_committed(found: TopicInfo) -> None:
    noted = Noted()
    noted.positions.check_unchanged([A0, A1], Answered(a=TopicInfo("A", 2)))
    assert noted.changes == 0
    with pytest.raises(CommitAborted, match="topic a was deleted"):
        noted.positions.check_unchanged([A0], Answered(a=found))
    assert noted.changes == 1
