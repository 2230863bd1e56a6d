"""The offset at which a partition resumes, decided from what its log and its saved state say."""

from __future__ import annotations

from typing import NamedTuple

from detector.codec.state_serde import Checkpoint
from detector.core.readings import Partition
from detector.errors import LogUnavailable
from detector.ports import RECREATED, TRUNCATED, PartitionPosition


class ResumePoint(NamedTuple):
    """Where a partition resumes.

    offset      messages from here on are live; the log may not hold the first of them any more
    why_cold    why the saved state, if there is any, cannot be used; empty: it can
    log_change  what became of the log that was read (`ports.LOG_CHANGES`); empty: it is the same, as far as the log can tell
    """

    offset: int
    why_cold: str = ""
    log_change: str = ""


def resume_point(
    partition: Partition, at: PartitionPosition, checkpoint: Checkpoint | None, fingerprint: str, *, read_of: str, keeps_state: bool
) -> ResumePoint:
    """Where a partition resumes.

    checkpoint   of its saved state; None: there is none
    fingerprint  of the model
    read_of      id of the log that this process read before; empty: it read none
    keeps_state  whether this service saves state

    raises LogUnavailable  the brokers name an older offset than the saved state, and nobody set it back
    """
    log_id = checkpoint.log_id if checkpoint is not None else read_of
    if at.log_id and log_id and at.log_id != log_id:
        is_set = at.is_committed and not at.is_own and at.first <= at.offset <= at.end  # by a person, in the new log
        return ResumePoint(at.offset if is_set else at.first, "the topic was recreated", RECREATED)
    if at.diverges_at is not None:
        return ResumePoint(min(at.diverges_at, at.offset), f"the log was truncated at offset {at.diverges_at}", TRUNCATED)
    if at.end < (at.offset if at.is_committed or checkpoint is None else checkpoint.next_offset):
        return ResumePoint(at.first, "the log ends before what was read of it", TRUNCATED)
    if checkpoint is not None and at.is_own and at.offset < checkpoint.next_offset <= at.end:
        # State and offset are committed together, so the brokers have forgotten: a Kafka that is alone and was killed can name offsets of
        # minutes ago. To go on from there would repeat all alerts since.
        raise LogUnavailable(
            f"{partition.topic} {partition.number}: the brokers name an old committed offset, {at.offset}; the saved state was committed "
            f"with {checkpoint.next_offset}",
            fix="restart the broker that coordinates the group; to go back on purpose, set the offset with Kafka's own tools",
        )
    if checkpoint is None:
        is_lost = keeps_state and at.is_own  # an offset that a person set before the first start has no state
        return ResumePoint(at.offset, "no state is saved, though this group has committed offsets" if is_lost else "")
    if checkpoint.fingerprint != fingerprint:
        return ResumePoint(at.offset, "the saved state is of another model")
    if not at.is_committed:  # the brokers have dropped the group's offset, the saved state has it
        return ResumePoint(checkpoint.next_offset)
    if at.offset < checkpoint.next_offset:
        return ResumePoint(at.offset, "the group's offset was set back to before the saved state")
    return ResumePoint(at.offset)
