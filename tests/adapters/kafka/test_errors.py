"""librdkafka's errors as ours."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from detector.adapters.kafka.errors import to_detector_error
from detector.errors import ConfigError, DetectorError, Fenced, LogUnavailable

CASES: list[tuple[int, type[DetectorError], type[DetectorError]]] = [
    (KafkaError._TRANSPORT, LogUnavailable, LogUnavailable),
    (KafkaError._AUTHENTICATION, ConfigError, LogUnavailable),
    (KafkaError._SSL, ConfigError, LogUnavailable),
    (KafkaError.UNKNOWN_TOPIC_OR_PART, ConfigError, LogUnavailable),
    (KafkaError.TOPIC_AUTHORIZATION_FAILED, ConfigError, ConfigError),
    (KafkaError._FATAL, ConfigError, ConfigError),
    (KafkaError.PRODUCER_FENCED, Fenced, Fenced),
]


@pytest.mark.parametrize(("code", "at_start", "running"), CASES)
def test_the_remedy_depends_on_whether_it_has_worked_before(code: int, at_start: type, running: type) -> None:
    error = KafkaError(code, "why")
    found = to_detector_error(error, "reading"), to_detector_error(error, "reading", is_running=True)
    assert [type(each) for each in found] == [at_start, running]
    assert all(str(each).startswith("reading: ") and each.fix for each in found)


def test_a_taken_name_is_told_from_the_text_of_a_fatal_error() -> None:
    found = to_detector_error(KafkaError(KafkaError._FATAL, "static consumer fenced by another"), "reading")
    assert isinstance(found, Fenced)
    assert "group.instance.id" in found.fix
