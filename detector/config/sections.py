"""The configuration as frozen models. Every field has its unit, its bounds and its purpose."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from detector.config.secrets import SECRET_NAME, secrets_in

TOPIC_NAME_MAX = 249  # characters; source: org.apache.kafka.common.internals.Topic
DAY_US = 86_400_000_000
PERIODS_US = {"hour": DAY_US // 24, "day": DAY_US, "week": 7 * DAY_US, "month": 30 * DAY_US, "year": 365 * DAY_US}
BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s+per\s+stream\s+per\s+(hour|day|week|month|year)\s*$")


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, no silent conversion of types, no values in error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True)

    @field_validator("topics", "stream", "channels", "watch", "url", "time", "missing_values", mode="before", check_fields=False)
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        """YAML has lists where these have tuples; a single name stands for a list of one."""
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class EventTime(Section):
    """When the sensor measured."""

    field: str | None = Field(None, description="dotted path of the field; without it Kafka's own time of the message counts")
    unit: Literal["auto", "s", "ms", "us", "ns", "iso8601"] = Field(
        "auto",
        description="what a number means; auto finds seconds, milliseconds, microseconds or nanoseconds by its size "
        "(right for 1973 to 2286) and reads text as ISO 8601",
    )
    future_s_max: float = Field(
        86_400,
        gt=0,
        description="a reading further ahead of the log's own time than this is invalid: one absurd time would make all others late",
    )
    past_s_max: float = Field(10 * 365 * 86_400, gt=0, description="a reading further behind the log's own time than this is invalid")
    ties: Literal["offset", "drop"] | None = Field(
        None,
        description="what becomes of a reading with the event time of its stream's newest one; offset: it is judged like any other, in the "
        "order of the log; drop: it is a duplicate and ignored; without it offset where Kafka's own time counts, drop where a field is named",
    )

    @property
    def keeps_ties(self) -> bool:
        """Whether a reading with the event time of its stream's newest one is judged.

        A time that the sensor wrote comes again with a redelivery; of a time that Kafka wrote, many readings share a millisecond.
        """
        return (self.ties or ("offset" if self.field is None else "drop")) == "offset"


class LongFormat(Section):
    """One value per message: the fields that hold the channel's name and the value."""

    channel: str = Field(description="dotted path of the field that names the channel")
    value: str = Field(description="dotted path of the field that carries the value")


class Input(Section):
    """Where readings come from and how to read them."""

    topics: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="topics to read")
    stream: tuple[str, ...] | None = Field(
        None, description="dotted paths whose values, joined by '/', name the stream; without it the message's key does"
    )
    key: Literal["utf8", "json", "long", "int", "framed"] = Field(
        "utf8",
        description="what the messages' keys are, where they name the stream: utf8, text; json, text, an integer or a record; long and int, "
        "numbers of Kafka's LongSerializer and IntegerSerializer; framed, records in Confluent's wire format, whose schemas are in the registry",
    )
    key_field: str | None = Field(
        None, description="dotted path of the stream's name in keys that are records; without it they must have one field"
    )
    event_time: EventTime = EventTime()
    channels: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="dotted paths of the channels, in the model's order; without it the model's own channel names; a universal model "
        "has none: it judges the channels that are named here",
    )
    array_path: str | None = Field(
        None, description="dotted path of an array that carries all channels in the model's order; `channels` are then their names only"
    )
    format: Literal["json", "senml", "avro", "protobuf", "json_schema"] = Field(
        "json",
        description="what messages are: plain JSON; SenML (RFC 8428); or records in Confluent's wire format, whose schemas are in the registry that "
        "schema_registry names; paths are the same for all",
    )
    records_path: str | None = Field(
        None,
        description="dotted path of an array of readings inside one message (a gateway's batch), '.' if the message itself is that "
        "array; stream and event time may stand in its entries or beside it",
    )
    long_format: LongFormat | None = Field(None, description="one value per message instead of one reading")
    missing_values: tuple[float, ...] = Field(
        (), description="numbers that stand for a missing value, such as -200; texts that are no numbers always do"
    )
    join: bool = Field(
        False,
        description="whether several messages of one stream and time, each with some of the channels, are one reading; it is judged when all "
        "channels have come, or a later time has",
    )
    missing: Literal["wait", "fail"] = Field(
        "wait",
        description="what the service does at its start if one of several topics is missing: wait for it while the others are judged, or fail; "
        "without any topic it fails",
    )
    message_bytes_max: int = Field(1_048_576, ge=64, le=64 * 1_048_576, description="a longer message is invalid, bytes")

    @model_validator(mode="after")
    def _one_shape(self) -> Input:
        if self.array_path is not None and self.long_format is not None:
            raise ValueError("array_path and long_format exclude each other: an array of channels, or one value per message")
        if self.join and (self.long_format is not None or self.array_path is not None):
            raise ValueError("join is for readings with fields; values in long format are joined anyway, and an array has all channels")
        if self.stream is not None and (self.key != "utf8" or self.key_field is not None):
            raise ValueError("key and stream exclude each other: the messages' keys name the stream, or fields do")
        if self.key_field is not None and self.key not in ("json", "framed"):
            raise ValueError("key_field is for keys that are records: set key: json or key: framed")
        return self


class FileInput(Section):
    """How recordings (files of readings) are read; what is not said here is found in the file. `input` says how messages are read."""

    time: tuple[str, ...] | None = Field(
        None, min_length=1, description="column of the time; of several the texts are joined, as of date and clock"
    )
    time_format: str | None = Field(
        None,
        description="how times are written, where the file does not decide: day_first, month_first, iso8601; epoch_s, epoch_ms, epoch_us, "
        "epoch_ns; excel (serial days); elapsed_s, elapsed_ms, elapsed_us, elapsed_min, elapsed_h, elapsed_d; or a format of strptime",
    )
    zone: str | None = Field(None, description="time zone of times without an offset, such as Europe/Berlin; without it UTC")
    every_s: float | None = Field(None, gt=0, description="for files without a time: the rows of a stream are so far apart, seconds")
    stream: tuple[str, ...] | None = Field(None, min_length=1, description="columns that name the stream, joined by '/'")
    channels: tuple[str, ...] | None = Field(None, min_length=1, description="columns that are channels; without it all columns of numbers")
    missing_values: tuple[float | str, ...] = Field((), description="numbers and texts that stand for a missing value, such as -200")
    decimal: Literal[".", ","] | None = Field(None, description="the decimal mark, where the file does not decide")
    separator: Literal[",", ";", "|", "tab", "blanks"] | None = Field(None, description="what separates columns, where it is not found")
    long_format: LongFormat | None = Field(None, description="one value per row: the columns that hold the channel's name and the value")

    @model_validator(mode="after")
    def _one_time(self) -> FileInput:
        if self.every_s is not None and self.time is not None:
            raise ValueError("every_s is for files without a time: leave out time or every_s")
        return self


class Output(Section):
    """Where decisions go. Topics not named follow from the group."""

    alerts: str | None = Field(None, description="topic of alerts; <group>.alerts without it")
    dead_letters: str | None = Field(None, description="topic of dead letters; <group>.dead-letters without it")
    format: Literal["json", "json_schema"] = Field(
        "json", description="what alerts are: plain JSON, or JSON in Confluent's wire format, with its schema in the registry"
    )


class Alerts(Section):
    """When an alert opens and closes."""

    budget: str = Field(
        "1 per stream per week", description="false alerts that are acceptable: 'NUMBER per stream per hour|day|week|month|year'"
    )
    warmup_readings: int = Field(
        100,
        ge=0,
        le=1_000_000,
        description="readings of a new stream that teach the detector and cannot alert; with the universal model, as many as are known to be normal",
    )
    reset_baseline_after_s: float | None = Field(
        None,
        gt=0,
        description="an alert this old, counted from its opening in event time, is closed, and the stream's present level becomes its baseline; without it after "
        "2,000 readings or a day, whichever is sooner, but not before 24 readings; "
        "`detector reset-baseline` does so at once",
    )
    timeout_intervals: float = Field(
        60, ge=0, description="a stream without a reading for so many of its usual intervals is an alert; 0 turns it off"
    )
    stuck_run_factor: float = Field(
        5,
        ge=0,
        description="a channel that moves, and then keeps its value for so many times its longest usual run, is an alert (stuck); so is one "
        "that comes, and then is missing for so many times its longest usual gap (missing); 0 turns both off",
    )

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        match = BUDGET.match(value)
        if not match or float(match[1]) <= 0:
            raise ValueError("write it as '1 per stream per week' (a positive number; hour, day, week, month or year)")
        return value

    @property
    def budget_period_us(self) -> float:
        """Event time per budgeted false alert of one stream, microseconds."""
        match = BUDGET.match(self.budget)
        assert match is not None
        return PERIODS_US[match[2]] / float(match[1])


class Alertmanager(Section):
    """Where alerts go besides their topic. Off without a `url`."""

    url: tuple[str, ...] = Field(
        (), description="roots of Alertmanagers, such as http://alertmanager:9093; of a cluster all of them: each gets every alert"
    )
    username: Annotated[str, Field(pattern=r"^[^:]+$")] | None = Field(None, description="for basic authentication, with `password`")
    password: SecretStr | None = Field(None, description="for basic authentication; better in the environment")
    bearer_token: SecretStr | None = Field(None, description="instead of username and password; better in the environment")
    ca_file: str | None = Field(None, description="authorities that sign its certificate, PEM; without it the system's")
    resend_interval_s: float = Field(
        60, ge=1, le=3_600, description="open alerts are sent again so often; they end by themselves four times as long after the last time"
    )
    labels: dict[Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], str] = Field(
        default_factory=dict, description="further labels of every alert, such as the plant's name"
    )

    @field_validator("url")
    @classmethod
    def _root_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("write Alertmanager's root, such as http://alertmanager:9093")
            if parts.username is not None:
                raise ValueError("a url must not carry a password: write `username` and `password` beside it")
            _ = parts.port  # raises ValueError where it is none
        return tuple(dict.fromkeys(url.rstrip("/") for url in value))

    @field_validator("password", "bearer_token", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str | SecretStr):
            raise ValueError("put it in quotes; without them YAML reads it as a number, a date or a truth value")
        return value

    @model_validator(mode="after")
    def _one_authentication(self) -> Alertmanager:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; the password may come from DETECTOR_ALERTMANAGER__PASSWORD")
        if self.username is not None and self.bearer_token is not None:
            raise ValueError("username and bearer_token exclude each other")
        if self.bearer_token is not None and not re.fullmatch(r"[!-~]+", self.bearer_token.get_secret_value()):
            raise ValueError("bearer_token has a space, a line break or a character that is not ASCII")
        return self

    @property
    def secrets(self) -> frozenset[str]:
        """Values that no line of a log may show."""
        return frozenset(secret.get_secret_value() for secret in (self.password, self.bearer_token) if secret is not None)


class Streams(Section):
    """How many streams are kept, and for how long."""

    max_per_partition: int = Field(
        1_000_000, ge=1, le=50_000_000, description="streams in memory per partition; readings of further ones are invalid"
    )
    idle_ttl_s: float = Field(
        30 * 86_400, gt=0, description="a stream without a reading for so much event time is evicted; if it comes back it is new"
    )


class State(Section):
    """How the streams' state outlives the process."""

    flush_interval_s: float = Field(
        10,
        ge=0,
        le=3_600,
        description="state that changed is saved within one to two of these intervals; a shorter one writes more, and leaves less to read again "
        "after a crash; 0: state is not saved, every start is cold",
    )


class Service(Section):
    """Batches, and how the process waits and stops."""

    batch_messages_max: int = Field(
        10_000, ge=1, le=1_000_000, description="messages in a batch at most; larger is faster, and alerts come later"
    )
    poll_timeout_ms: int = Field(100, ge=1, le=60_000, description="how long to wait for the first message of a batch")
    drain_timeout_s: float = Field(
        20, gt=0, le=600, description="on SIGTERM: how long the commit of what was judged may take before the process ends anyway"
    )
    backoff_ms_max: int = Field(5_000, ge=10, le=600_000, description="longest pause between attempts while the log is unavailable")


class Http(Section):
    """Metrics and health."""

    host: str = Field("0.0.0.0", description="address to listen on; Prometheus comes from elsewhere. `::` takes IPv6 as well")  # noqa: S104
    port: int = Field(9095, ge=0, le=65_535, description="0 takes a free port; it is printed at the start")


class Metrics(Section):
    """Streams with metrics of their own."""

    watch: tuple[str, ...] = Field(
        (), max_length=100, description="streams with series of their own (score and threshold, observed and expected)"
    )


class Logging(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line that is written")
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, JSON lines elsewhere")


class Config(Section):
    """The whole configuration. `detector schema config` prints the JSON Schema."""

    group: str = Field(
        "detector", pattern=r"^[A-Za-z0-9._-]{1,200}$", description="consumer group; topics of output and state are named after it"
    )
    model: str = Field("universal", description="a bundle's folder, or the name of one that ships; `universal` judges any channels")
    input: Input = Input()
    recording: FileInput = FileInput()
    output: Output = Output()
    alerts: Alerts = Alerts()
    alertmanager: Alertmanager = Alertmanager()
    streams: Streams = Streams()
    state: State = State()
    service: Service = Service()
    http: Http = Http()
    metrics: Metrics = Metrics()
    log: Logging = Logging()
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once",
        description="exactly_once: alerts, state and offsets are committed together, in a Kafka transaction; at_least_once, for brokers "
        "without transactions: alerts are written before offsets, none is lost, a crash may repeat some, with the same id",
    )
    kafka: dict[str, SecretStr] = Field(
        default_factory=lambda: {"bootstrap.servers": SecretStr("localhost:9092")},
        description="librdkafka properties under their own names, passed on as they are; also `sasl.mechanism: AWS_MSK_IAM`, which librdkafka "
        "does not know",
    )

    schema_registry: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="properties of confluent-kafka's SchemaRegistryClient under their own names, passed on as they are; needed for "
        "input.format avro, protobuf and json_schema, and for output.format json_schema",
    )

    @field_validator("kafka", "schema_registry", mode="before")
    @classmethod
    def _flat(cls, value: Any, info: ValidationInfo) -> Any:
        example = "bootstrap.servers: host:9092" if info.field_name == "kafka" else "url: http://host:8081"
        if not isinstance(value, dict):
            raise ValueError(f"write the client's properties, one per line: '{example}'")
        for name, entry in value.items():
            if isinstance(entry, dict | list):
                raise ValueError(f"{name}: properties are written under their dotted names, such as '{example}'")
            if SECRET_NAME.search(str(name)) and not isinstance(entry, str | SecretStr):
                raise ValueError(f"{name}: put it in quotes; without them YAML reads it as a number, a date or a truth value")
        if info.field_name == "kafka" and not {"bootstrap.servers", "metadata.broker.list"} & value.keys():
            raise ValueError("bootstrap.servers is missing: write 'bootstrap.servers: host:9092'")
        return {name: entry if isinstance(entry, SecretStr) else librdkafka_text(entry) for name, entry in value.items()}

    @model_validator(mode="after")
    def _registry_is_configured(self) -> Config:
        formats = {"input.format": self.input.format, "output.format": self.output.format}
        needs = [f"{name} {written}" for name, written in formats.items() if written in ("avro", "protobuf", "json_schema")]
        needs += ["input.key framed"] * (self.input.key == "framed")
        if needs and "url" not in self.schema_registry:
            raise ValueError(f"a schema registry is needed for {' and '.join(needs)}: write 'schema_registry: {{url: http://host:8081}}'")
        return self

    @model_validator(mode="after")
    def _exactly_once_saves_state(self) -> Config:
        if self.delivery == "exactly_once" and not self.state.flush_interval_s:
            raise ValueError(
                "delivery exactly_once needs saved state, or alerts after a restart would differ: "
                "set state.flush_interval_s above 0, or delivery: at_least_once"
            )
        return self

    @model_validator(mode="after")
    def _topics_are_distinct(self) -> Config:
        names = Counter([*dict.fromkeys(self.input.topics), self.alerts_topic, self.dead_letters_topic, *self.state_topics.values()])
        for name, purposes in names.items():
            if purposes > 1:
                raise ValueError(f"topic {name} is named for {purposes} purposes: input, alerts, dead letters and state need one each")
            if len(name) > TOPIC_NAME_MAX:
                raise ValueError(
                    f"topic {name} has a name of {len(name)} characters, Kafka allows {TOPIC_NAME_MAX}: shorten it, or `group` if it "
                    "begins with that"
                )
        return self

    @property
    def alerts_topic(self) -> str:
        return self.output.alerts or f"{self.group}.alerts"

    @property
    def dead_letters_topic(self) -> str:
        return self.output.dead_letters or f"{self.group}.dead-letters"

    @property
    def state_topics(self) -> dict[str, str]:
        """Per input topic the topic that keeps its streams' state; empty where state is not saved."""
        return {topic: f"{self.group}.{topic}.state" for topic in self.input.topics} if self.state.flush_interval_s else {}

    @property
    def secrets(self) -> frozenset[str]:
        """Values that no line of a log may show."""
        return secrets_in(self.kafka_properties()) | secrets_in(self.registry_properties()) | self.alertmanager.secrets

    def kafka_properties(self) -> dict[str, str]:
        """librdkafka's properties in clear: hand them to librdkafka, never to a log."""
        return {name: entry.get_secret_value() for name, entry in self.kafka.items()}

    def registry_properties(self) -> dict[str, str]:
        """The registry client's properties in clear: hand them to it, never to a log."""
        return {name: entry.get_secret_value() for name, entry in self.schema_registry.items()}


def librdkafka_text(value: object) -> str:
    """A YAML value as librdkafka writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
