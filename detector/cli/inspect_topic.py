"""`detector inspect --topic`: what the messages of a topic hold, and what the configured decoder makes of them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from detector.adapters.kafka.topic_sample import TopicSample, sample_topic
from detector.cli import logs, registry_wiring, wiring
from detector.cli.inspection_report import Inspection
from detector.cli.progress import progress_bar
from detector.codec.field_names import names_in, nearest
from detector.codec.keys import KeyReader
from detector.config.secrets import SECRET_NAME
from detector.core.readings import StreamNames
from detector.errors import DataError
from detector.inspection.facts import Facts, facts_of, period, throughput_hz
from detector.inspection.keys import KeyFacts, key_facts
from detector.inspection.messages import LOG_TIME, understand_messages
from detector.inspection.proposal import configuration, for_messages, sentinels_of
from detector.tables.json_table import table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from detector.codec.keys import KeyKind
    from detector.codec.messages import Messages
    from detector.codec.reading_format import Decoded
    from detector.config import Config, FileInput

PLACE = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class SampledReadings:
    """What the configured decoder made of a sample.

    facts       None: there are no readings
    spread      streams that come in more than one partition
    not_judged  readings that would not be judged, by the reason
    """

    decoded: Decoded
    facts: Facts | None
    spread: int
    not_judged: dict[str, int]


def sampled(settings: Config, topic: str, messages_max: int) -> TopicSample:
    """A sample of a topic, with progress on a terminal.

    raises DataError  the topic is empty
    raises ConfigError, LogUnavailable  as `sample_topic`
    """
    with progress_bar() as progress:
        task = progress.add_task(f"reading {topic}", total=messages_max)
        sample = sample_topic(
            settings.kafka_properties(),
            topic,
            messages_max,
            on_progress=lambda count: progress.update(task, completed=count),
            on_log=logs.log_client_line,
        )
    if not len(sample.messages):
        raise DataError(f"topic {topic} holds no messages", fix="wait until some come, or name another topic")
    return sample


def of_topic(settings: Config, topic: str, options: FileInput, messages_max: int) -> Inspection:
    """Inspect a topic. No group is joined and nothing is committed.

    raises DataError, ConfigError  its messages cannot be read as readings
    raises LogUnavailable  the brokers do not answer
    """
    sample = sampled(settings, topic, messages_max)
    keys, names = _keys(settings, sample.messages)
    kind, texts = _as_json(settings, sample)
    found = table_of(texts, options, f"topic {topic}")
    messages = understand_messages(found, options, f"topic {topic}", names, sample.messages.log_time_us)
    understood = replace(messages.recording.understanding, file=", ".join(filter(None, (_format(kind), found.shape.described))))
    if messages.problem:
        raise DataError(f"topic {topic}: {messages.problem}", fix="name the field of the time with --time; without one Kafka's own counts")
    shape = replace(
        messages.shape,
        format=messages.shape.format if kind == "json" else kind,
        key=keys.kind if messages.shape.key else None,
        key_field=keys.field if messages.shape.key else None,
    )
    sentinels = sentinels_of(understood.channels)
    proposal = for_messages(f"--topic {topic}", topic, understood, shape, LOG_TIME, sentinels, _clients(settings))
    config = settings.model_copy(update={"input": configuration(proposal).input})
    read = read_sample(config, sample, messages.recording.channels)
    facts = read.facts or facts_of(("none",), np.zeros(1, np.int32), sample.messages.log_time_us[:1])
    is_newest = sample.is_newest[read.decoded.message]
    rate_hz = throughput_hz(read.decoded.batch.partition[is_newest], read.decoded.batch.event_time_us[is_newest])
    return Inspection(
        f"topic {topic}",
        understood,
        replace(facts, rate_hz=rate_hz, ties=facts.ties if read.decoded.batch.channel is None else 0),  # parts of a reading share its time
        wiring.estimated(settings, facts.streams, rate_hz, messages.recording.channels),
        read.not_judged,
        proposal,
        tuple(_about(sample, keys, read, is_registry_known=bool(settings.schema_registry))),
        tuple(("missing?", why) for why in sentinels.values()),
        is_sample=not sample.is_whole,
    )


def read_sample(settings: Config, sample: TopicSample, channels: tuple[str, ...]) -> SampledReadings:
    """What the configured decoder makes of a sample, and what the service would not judge of it."""
    names = StreamNames()
    decoder = registry_wiring.decoder(settings, wiring.reading_format(settings.input, channels), names)
    decoded = decoder.decode(sample.messages)
    not_judged = _rejected(decoded)
    batch = decoded.batch
    if not len(batch):
        return SampledReadings(decoded, None, 0, not_judged)
    pairs = batch.stream_id.astype(np.int64) * len(batch.partitions) + batch.partition  # a partition judges its own part of a stream
    own, stream = np.unique(pairs, return_inverse=True)
    of_names = [names.name(each) for each in (own // len(batch.partitions)).tolist()]
    facts = facts_of(of_names, stream.astype(np.int32), batch.event_time_us)
    spread = sum(count > 1 for count in Counter(of_names).values())
    if facts.late and batch.channel is None:
        not_judged["late: older than the newest of their stream"] = facts.late
    if facts.ties and batch.channel is None and not settings.input.event_time.keeps_ties:
        not_judged["duplicate: of a stream and time that had a reading"] = facts.ties
    empty = int(np.isnan(batch.value).all(axis=1).sum())
    if empty:
        not_judged["empty: without any of the channels"] = empty
    return SampledReadings(decoded, facts, spread, not_judged)


def _rejected(decoded: Decoded) -> dict[str, int]:
    """Readings that cannot be read, by what was expected; with what was found the first time."""
    first: dict[tuple[str, str], str] = {}
    counts = Counter[str]()
    for reject in decoded.rejects:
        expected = reject.reason.partition(", found ")[0]
        reason = first.setdefault((reject.error, PLACE.sub("[]", expected)), f"{reject.error}: {reject.reason}")
        counts[reason] += reject.readings
    return dict(counts.most_common())


def _keys(settings: Config, messages: Messages) -> tuple[KeyFacts, list[str | None] | None]:
    """What the keys are, and the stream's name in each; None where they cannot name streams."""
    found = key_facts(messages.key)
    if found.kind in ("none", "binary") or (found.kind == "framed" and not settings.schema_registry):
        return found, None
    kind = found.kind
    if kind == "framed":
        _, texts = registry_wiring.unframed(settings, messages.key)
        messages, kind = replace(messages, key=texts), "json"
        found = replace(found, field=key_facts(texts).field)
    names, _ = KeyReader(cast("KeyKind", kind), found.field).read(messages)
    return found, [None if name is None else name.decode("utf-8", "replace") for name in names]


def _as_json(settings: Config, sample: TopicSample) -> tuple[str, list[bytes]]:
    """The `input.format` of the messages, and their values as JSON; b'' stands for none."""
    values = sample.messages.value
    framed = sum(value is not None and len(value) > 5 and value[0] == 0 for value in values)
    if framed <= len(values) / 2:
        return "json", [value or b"" for value in values]
    name, texts = registry_wiring.unframed(settings, values)
    return name, [text or b"" for text in texts]


def _format(name: str) -> str:
    return {"json": "JSON", "avro": "Avro", "protobuf": "Protobuf", "json_schema": "JSON"}[name] + (
        "" if name == "json" else " in Confluent's wire format"
    )


def _about(sample: TopicSample, keys: KeyFacts, read: SampledReadings, *, is_registry_known: bool) -> Iterator[tuple[str, str]]:
    """What the brokers tell of the topic, and what the sample shows."""
    held = [each.high - each.low for each in sample.partitions]
    spread = f", {min(held):,} to {max(held):,} offsets each" if len(held) > 1 else ""
    yield "topic", f"{len(held):,} partition{'s' * (len(held) != 1)}, some {sample.held:,} messages{spread}"
    told = [f"{name} {value}" for name, value in sample.settings.items() if name != "retention.ms"]
    if (kept := sample.settings.get("retention.ms", "-1")) not in ("-1", ""):
        told.append(f"kept {period(float(kept) * 1_000)}")
    if told:
        yield "", "; ".join(told)
    what = "all of it" if sample.is_whole else "the oldest, some of the middle and the newest of each partition"
    yield "sample", f"{len(sample.messages):,} messages: {what}"
    if sample.gaps_share > 0:
        why = (
            "compaction" if "compact" in sample.settings.get("cleanup.policy", "") else "transactions (their markers, and what was aborted)"
        )
        yield "gaps", f"{sample.gaps_share:.0%} of the offsets looked at hold no message: {why}"
    yield "key", keys.described
    if keys.kind == "framed" and not is_registry_known:
        yield "", "to read them, name the schema registry: schema_registry: {url: ...} in a file that --config names"
    batch = read.decoded.batch
    log_time_us = sample.messages.log_time_us[read.decoded.message]
    known = log_time_us >= 0
    behind = (log_time_us - batch.event_time_us)[known]
    if behind.any():
        usual, least, most = (_span(float(each)) for each in (np.median(behind), behind.min(), behind.max()))
        yield "delay", f"event time is usually {usual} the log's, from {least} to {most}"
    arrivals_hz = throughput_hz(sample.messages.partition[sample.is_newest], sample.messages.log_time_us[sample.is_newest])
    if arrivals_hz == arrivals_hz:
        shown = f"{arrivals_hz:,.0f}" if arrivals_hz >= 10 else f"{arrivals_hz:.2g}"
        yield "", f"the newest messages came at {shown} a second"
    if read.spread:
        why = "each partition's readings are a stream of their own; let producers write the stream as the message's key"
        yield "spread", f"{read.spread:,} streams come in more than one partition: {why}"


def _span(behind_us: float) -> str:
    return "at" if behind_us == 0 else f"{period(abs(behind_us))} {'behind' if behind_us > 0 else 'ahead of'}"


def _clients(settings: Config) -> dict[str, dict[str, str | None]]:
    """The clients' properties that a configuration needs; None stands for a secret, which is set in the environment."""
    found = {}
    for section, properties in (("kafka", settings.kafka_properties()), ("schema_registry", settings.registry_properties())):
        if properties:
            found[section] = {name: None if SECRET_NAME.search(name) else value for name, value in properties.items()}
    return found


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What the configured decoder makes of a sample of a topic. judged: readings that would be"""

    topic: str
    judged: int
    lines: tuple[str, ...]


def sample_report(settings: Config, topic: str, messages_max: int) -> SampleReport:
    """Read a sample of a topic as the configuration says.

    raises DataError, ConfigError, LogUnavailable
    """
    sample = sampled(settings, topic, messages_max)
    channels = wiring.load_model(settings).channels
    read = read_sample(settings, sample, channels)
    total = len(read.decoded.batch) + sum(reject.readings for reject in read.decoded.rejects)
    judged = total - sum(read.not_judged.values())
    lines = [f"{topic}: {len(sample.messages):,} messages, {total:,} readings, {judged:,} of them would be judged"]
    if read.facts is not None:
        largest = ", ".join(f"{name} {count:,}" for name, count in read.facts.largest)
        lines.append(f"{read.facts.streams:,} streams, most readings of {largest}")
    present = (~np.isnan(read.decoded.batch.value)).mean(axis=0) if len(read.decoded.batch) else np.zeros(len(channels))
    known = names_in(sample.messages.value, settings.input.records_path)
    for name, share in zip(channels, present.tolist(), strict=True):
        hint = f"; did you mean {near[0]}?" if share == 0 and (near := nearest(name, known)) else ""
        lines.append(f"channel {name}: in {share:.0%} of the readings{hint}")
    lines += [f"not judged {count:,}: {reason}" for reason, count in list(read.not_judged.items())[:20]]
    if read.decoded.ignored:
        lines.append(f"{read.decoded.ignored:,} values are of channels that the model does not have")
    return SampleReport(topic, judged, tuple(lines))
