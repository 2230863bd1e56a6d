"""Where a partition goes on, decided from what its log and its saved state say."""

from __future__ import annotations

from typing import NamedTuple

from detector.codec.snapshots import Checkpoint
from detector.ports import RECREATED, TRUNCATED, PartitionPosition


class Beginning(NamedTuple):
    """Where a partition goes on.

    offset      messages from here on are news; the log may not hold it any more
    why_cold    why the saved memories, if there are any, cannot be used
    log_change  what became of the log that was read (`ports.LOG_CHANGES`); empty: it is the same, as far as anybody can tell
    """

    offset: int
    why_cold: str = ""
    log_change: str = ""


def beginning(at: PartitionPosition, checkpoint: Checkpoint | None, fingerprint: str, *, read_of: str, keeps_state: bool) -> Beginning:
    """Where a partition goes on.

    checkpoint   of its saved state; None: there is none
    fingerprint  of the model
    read_of      id of the log that this process read before, if it did
    """
    log_id = checkpoint.log_id if checkpoint is not None else read_of
    if at.log_id and log_id and at.log_id != log_id:
        is_set = at.is_committed and not at.is_own and at.first <= at.offset <= at.end  # by a person, in the new log
        return Beginning(at.offset if is_set else at.first, "the topic was made anew", RECREATED)
    if at.diverges_at is not None:
        return Beginning(min(at.diverges_at, at.offset), f"from offset {at.diverges_at} on the log is not what was read of it", TRUNCATED)
    if at.end < (at.offset if at.is_committed or checkpoint is None else checkpoint.next_offset):
        return Beginning(at.first, "the log is shorter than what was read of it", TRUNCATED)
    if checkpoint is None:
        is_lost = keeps_state and at.is_own  # an offset that a person set, before the first start, has no memories
        return Beginning(at.offset, "none are saved, though this group has judged before" if is_lost else "")
    if checkpoint.fingerprint != fingerprint:
        return Beginning(at.offset, "another model made them")
    if not at.is_committed:  # the brokers have forgotten the group's offset, the snapshot has not
        return Beginning(checkpoint.next_offset)
    if at.offset < checkpoint.next_offset:
        return Beginning(at.offset, "the group's offset was set back to before them")
    return Beginning(at.offset)
