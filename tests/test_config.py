"""The configuration: every mistake is one message that names the key and what to write instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from detector.config import Config, load_config
from detector.errors import ConfigError

SECRET = "hunter2-and-more"


def write(folder: Path, text: str) -> Path:
    path = folder / "detector.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, **environment: str) -> Config:
    return load_config(write(folder, text), environment=environment)


def mistake(folder: Path, text: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environment)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_ties_are_kept_where_kafka_s_own_time_counts_unless_it_says_otherwise(tmp_path: Path) -> None:
    for event_time, keeps in (
        ("{}", True),
        ("{field: t}", False),
        ("{ties: drop}", False),
        ("{field: t, ties: offset}", True),
        ("{ties: null}", True),
    ):
        assert load(tmp_path, f"input: {{event_time: {event_time}}}").input.event_time.keeps_ties is keeps, event_time
    told = mistake(tmp_path, "input: {event_time: {ties: keep}}")
    assert "input.event_time.ties" in told
    assert "'offset' or 'drop'" in told


def test_defaults_need_no_file() -> None:
    config = load_config(None, environment={})
    assert config.alerts_topic == "detector.alerts"
    assert config.dead_letters_topic == "detector.dead-letters"
    assert config.kafka_properties() == {"bootstrap.servers": "localhost:9092"}
    assert config.alerts.budget_period_us == 7 * 86_400e6


def test_state_has_a_topic_per_input_unless_it_is_not_saved(tmp_path: Path) -> None:
    config = load(tmp_path, "group: plant\ninput: {topics: [sensors, more, more]}")
    assert (config.delivery, config.state.flush_interval_s) == ("exactly_once", 10)
    assert config.state_topics == {"sensors": "plant.sensors.state", "more": "plant.more.state"}
    config = load(tmp_path, "delivery: at_least_once\nstate: {flush_interval_s: 0}\ninput: {topics: [sensors]}")
    assert config.state_topics == {}


def test_the_longest_name_that_kafka_takes(tmp_path: Path) -> None:
    config = load(tmp_path, f"group: {'g' * 200}\ninput: {{topics: [{'t' * 42}]}}")
    assert len(config.state_topics["t" * 42]) == 249


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == load_config(None, environment={})


def test_a_whole_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        group: plant-1
        input:
          topics: [sensors, more]
          stream: machine.id
          event_time: {field: ts, unit: ms, future_s_max: 60}
          channels: [a.b, c]
        metrics: {watch: [plant1/pump7]}
        alerts: {budget: 2 per stream per day, reset_baseline_after_s: 3600}
        kafka:
          bootstrap.servers: kafka:9092
          enable.ssl.certificate.verification: false
          fetch.wait.max.ms: 50
        """,
    )
    assert config.input.topics == ("sensors", "more")
    assert config.input.stream == ("machine.id",)
    assert config.input.event_time.unit == "ms"
    assert config.metrics.watch == ("plant1/pump7",)
    assert config.alerts.budget_period_us == 86_400e6 / 2
    assert config.alerts_topic == "plant-1.alerts"
    assert config.kafka_properties()["enable.ssl.certificate.verification"] == "false"
    assert config.kafka_properties()["fetch.wait.max.ms"] == "50"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modle: plant", "modle: unknown key; did you mean 'model'?"),
        ("input: {topic: sensors}", "input.topic: unknown key; did you mean 'topics'?"),
        ("input: {event_time: {feild: ts}}", "input.event_time.feild: unknown key; did you mean 'field'?"),
        ("input: {long_format: {channel: a, value: b, unit: c}}", "input.long_format.unit: unknown key; known here: channel, value"),
        ("service: {xyzzy: 1}", "service.xyzzy: unknown key; known here: backoff_ms_max"),
        ("http: {port: many}", "http.port: Input should be a valid integer"),
        ('http: {port: "9095"}', "http.port: Input should be a valid integer"),
        ("http: {port: yes}", "http.port: Input should be a valid integer"),
        ("http: {port: 65536}", "http.port: Input should be less than or equal to 65535"),
        ("service: {batch_messages_max: 0}", "service.batch_messages_max: Input should be greater than or equal to 1"),
        ("service: {drain_timeout_s: .nan}", "service.drain_timeout_s"),
        ("service: {drain_timeout_s: .inf}", "service.drain_timeout_s"),
        ("alerts: {reset_baseline_after_s: .nan}", "alerts.reset_baseline_after_s"),
        ("group: 'with space'", "group: String should match pattern"),
        ("input: {topics: [1]}", "input.topics.0: YAML read it as a number; put it in quotes"),
        ("input: {topics: ['']}", "input.topics.0: String should have at least 1 character"),
        ("input: {event_time: {unit: fortnights}}", "input.event_time.unit: Input should be 'auto', 's', 'ms'"),
        ("input: {array_path: v, long_format: {channel: a, value: b}}", "array_path and long_format exclude each other"),
        ("alerts: {budget: often}", "write it as '1 per stream per week'"),
        ("alerts: {budget: 0 per stream per week}", "a positive number"),
        ("kafka: {security: {protocol: SSL}}", "properties are written under their dotted names"),
        ("kafka: localhost", "write the client's properties, one per line"),
        ("kafka: {client.id: me}", "bootstrap.servers is missing"),
        ("input:", "input: Input should be a valid"),
        ("- a\n- b", "must be a mapping of sections"),
        ("a: [", "is not YAML: line 1"),
        (
            "input: {channels: [NO, NO2]}",
            "input.channels.0: YAML read an unquoted no, off or false as false; put the name in quotes, such as 'NO'",
        ),
        ("recording: {missing_values: [NO]}", "recording.missing_values.0.str: YAML read an unquoted no, off or false as false"),
        ("input: {stream: yes}", "input.stream: YAML read an unquoted yes, on or true as true"),
        ("input: {channels: [1, a]}", "input.channels.0: YAML read it as a number; put it in quotes"),
        ("input: {topics: [2026-01-01]}", "input.topics.0: YAML read it as a date; put it in quotes"),
        ("group: a\nhttp: {port: 1}\ngroup: b", "the key 'group' stands twice in one section, in lines 1 and 3"),
        ("input:\n  topics: [a]\n  channels: [b]\n  topics: [c]", "the key 'topics' stands twice in one section, in lines 2 and 4"),
        ("kafka: {sasl.password: hunter2, sasl.password: hunter3}", "the key 'sasl.password' stands twice"),
        ("input: {key: long, stream: id}", "key and stream exclude each other"),
        ("input: {key: long, key_field: id}", "key_field is for keys that are records"),
        ("input: {key: framed}", "a schema registry is needed for input.key framed"),
        ("input: {join: true, array_path: v}", "join is for readings with fields"),
        ("input: {format: avor}", "input.format: Input should be 'json', 'senml', 'avro', 'protobuf' or 'json_schema'"),
        ("input: {format: avro}", "a schema registry is needed for input.format avro: write 'schema_registry: {url: http://host:8081}'"),
        ("output: {format: json_schema}\nschema_registry: {timeout: 5}", "a schema registry is needed for output.format json_schema"),
        ("schema_registry: http://r", "schema_registry: write the client's properties, one per line: 'url: http://host:8081'"),
        ("schema_registry: {basic.auth.user.info: 7}", "basic.auth.user.info: put it in quotes"),
        ("log: {level: loud}", "log.level: Input should be 'debug'"),
        ("delivery: twice", "delivery: Input should be 'exactly_once' or 'at_least_once'"),
        ("state: {flush_interval_s: -1}", "state.flush_interval_s: Input should be greater than or equal to 0"),
        ("state: {flush_interval_s: .nan}", "state.flush_interval_s"),
        ("alertmanager: {url: alertmanager}", "alertmanager.url: write Alertmanager's root, such as http://"),
        ("alertmanager: {url: ['http://a', 'http://a/?b']}", "alertmanager.url: write Alertmanager's root"),
        ("alertmanager: {url: 'http://a:port'}", "alertmanager.url: Port could not be cast"),
        ("alertmanager: {username: me}", "alertmanager: username and password belong together"),
        ("alertmanager: {username: a, password: b, bearer_token: c}", "alertmanager: username and bearer_token exclude each other"),
        ("alertmanager: {labels: {'a-b': x}}", "alertmanager.labels"),
        ("alertmanager: {resend_interval_s: 0.5}", "alertmanager.resend_interval_s"),
        ("state: {flush_interval_s: 0}", "set state.flush_interval_s above 0, or delivery: at_least_once"),
        ("output: {alerts: a, dead_letters: a}", "topic a is named for 2 purposes"),
        ("group: g\ninput: {topics: [t]}\noutput: {alerts: g.t.state}", "topic g.t.state is named for 2 purposes"),
        (f"group: {'g' * 200}\ninput: {{topics: [{'t' * 43}]}}", "has a name of 250 characters, Kafka allows 249: shorten it, or `group`"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, expected: str) -> None:
    message = mistake(tmp_path, text)
    assert expected in message
    assert "detector.yaml" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("http:\n\tport: 1", "line 2, column 1: a tab", "indent with spaces"),
        ("group: a: b", "line 1, column 9: a colon where no key can stand", "put the value in quotes if it contains a colon and a space"),
        ("http:\n  host: h\n port: 1", "line 3, column 2: ", "begin the keys of one section in the same column"),
        ("http:\n  host: h\n   port: 1", "line 3, column 8: a colon where no key can stand", "same column"),
        ("group: 'a'b", "line 1, column 11: ", "the whole of a value in quotes, or nothing of it"),
        ("group: g\nmodel: @m", "line 2, column 8: found character '@'", "put the value in quotes"),
        ("kafka:\n  sasl.password: *hunter2", "line 2, column 18: a value begins with *", "put the value in quotes"),
        ("kafka:\n  sasl.password: !hunter2", "line 2, column 18: a value begins with !", "put the value in quotes"),
        ("kafka: {sasl.password: &hunter2 a, b: &hunter2 c}", "line 1, column 39: a value begins with &", "put the value in quotes"),
        ("kafka:\n  sasl.password: >hunter2", "line 2, column 19: a value begins with > or |", "put the value in quotes"),
        ("group: g\nmodel: 'm\nhttp: {port: 1}", "line 2, column 8: a quote or bracket that opens here is not closed", "close it"),
        ("input:\n  topics: [a, b\nmodel: m", "line 2, column 11: a quote or bracket that opens here", "close it"),
        ('model: "C:\\models"', "line 1, column 12: found unknown escape", "single quotes"),
        ("group: g\n---\nmodel: m", "line 2, column 1: ", "leave out `---`"),
        ("group: 2026-99-99", "a value looks like a date", "put the value in quotes"),
        ("group: a\x01", "character 9 of the file", "remove it"),
        ("group", "must be a mapping of sections", "with a space after the colon"),
    ],
)
def test_what_is_not_yaml_is_told_with_its_place_and_what_to_write(tmp_path: Path, text: str, problem: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert problem in str(caught.value)
    assert fix in caught.value.fix
    assert "hunter2" not in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    message = mistake(tmp_path, "modle: x\nhttp: {port: -1, hots: y}")
    assert "modle" in message
    assert "http.port" in message
    assert "did you mean 'host'?" in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file") as caught:
        load_config(tmp_path / "absent.yaml", environment={})
    assert "--config" in caught.value.fix


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, environment={})
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"group: caf\xe9")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path, environment={})


def test_the_environment_replaces_the_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "group: file\nhttp: {port: 1}\ninput: {topics: [a]}",
        DETECTOR_GROUP="environment",
        DETECTOR_HTTP__PORT="2",
        DETECTOR_INPUT__TOPICS="[b, c]",
        DETECTOR_INPUT__EVENT_TIME__FIELD="ts",
        DETECTOR_KAFKA__BOOTSTRAP_SERVERS="kafka:9092",
        DETECTOR_KAFKA__SASL_PASSWORD=SECRET,
        HOME="/nowhere",
    )
    assert config.group == "environment"
    assert config.http.port == 2
    assert config.input.topics == ("b", "c")
    assert config.input.event_time.field == "ts"
    assert config.kafka_properties() == {"bootstrap.servers": "kafka:9092", "sasl.password": SECRET}


def test_the_command_line_replaces_both(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, "group: file"),
        overrides={"group": "command", "kafka/bootstrap.servers": "there:1", "input/topics": ("t",)},
        environment={"DETECTOR_GROUP": "environment"},
    )
    assert (config.group, config.input.topics) == ("command", ("t",))
    assert config.kafka_properties() == {"bootstrap.servers": "there:1"}


def test_mistakes_of_the_environment_are_named(tmp_path: Path) -> None:
    assert "did you mean 'group'?" in mistake(tmp_path, "", DETECTOR_GRUOP="x")
    assert "http.port" in mistake(tmp_path, "", DETECTOR_HTTP__PORT="many")
    assert "'group' is a single value" in mistake(tmp_path, "group: g", DETECTOR_GROUP__NAME="x")
    for value in ("[", "2026-99-99"):
        assert "DETECTOR_MODEL is not a YAML value" in mistake(tmp_path, "", DETECTOR_MODEL=value)


def test_what_kubernetes_puts_into_a_pod_is_not_a_setting(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "",
        DETECTOR_SERVICE_HOST="10.0.0.1",
        DETECTOR_SERVICE_PORT="9095",
        DETECTOR_SERVICE_PORT_METRICS="9095",
        DETECTOR_PORT="tcp://10.0.0.1:9095",
        DETECTOR_PORT_9095_TCP="tcp://10.0.0.1:9095",
        DETECTOR_PORT_9095_TCP_PROTO="tcp",
        DETECTOR_METRICS_SERVICE_HOST="10.0.0.2",
        DETECTOR_METRICS_PORT_80_TCP_ADDR="10.0.0.2",
        DETECTOR_DEBUG="1",
        DETECTOR_BENCHMARK_DATA="/data",
    )
    assert config == load_config(None, environment={})


def test_secrets_are_masked(tmp_path: Path) -> None:
    config = load(tmp_path, f"kafka: {{bootstrap.servers: 'a:1', sasl.password: {SECRET}}}")
    for shown in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        assert SECRET not in shown
    assert config.secrets == {SECRET}
    assert config.kafka_properties()["sasl.password"] == SECRET


@pytest.mark.parametrize(
    "text",
    [
        f"kafka: {{bootstrap.servers: 'a:1', sasl: {{password: {SECRET}}}}}",
        f"kafka:\n  sasl.password: {SECRET}: x\n  a: b: c",
        f"sasl.password: {SECRET}",
        f"kafka: {SECRET}",
        f"http: {{port: {SECRET}}}",
        f"kafka:\n  sasl.password: '{SECRET}\n",
    ],
)
def test_mistakes_do_not_repeat_values(tmp_path: Path, text: str) -> None:
    assert SECRET not in mistake(tmp_path, text)


def test_where_alerts_go_onward(tmp_path: Path) -> None:
    assert load(tmp_path, "").alertmanager.url == ()
    assert load(tmp_path, "alertmanager: {url: 'http://a:9093/'}").alertmanager.url == ("http://a:9093",)
    given = {"DETECTOR_ALERTMANAGER__URL": "[https://a/x, https://b/x/, https://a/x]", "DETECTOR_ALERTMANAGER__USERNAME": "pager"}
    for password in (SECRET, "0123", "{a", "yes: no"):  # text as it is, not YAML
        config = load(tmp_path, "", **given, DETECTOR_ALERTMANAGER__PASSWORD=password)
        assert config.alertmanager.url == ("https://a/x", "https://b/x")
        assert config.secrets == {password}
    config = load(tmp_path, f"alertmanager: {{bearer_token: {SECRET}}}")
    assert config.secrets == {SECRET}
    assert SECRET not in repr(config) + config.model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        f"alertmanager: {{url: 'http://me:{SECRET}@a'}}",
        f"alertmanager: {{bearer_token: '{SECRET} '}}",
        f"alertmanager: {{password: {SECRET}}}",
        f"alertmanager: {{username: 'a:{SECRET}', password: b}}",
        "alertmanager: {username: a, password: 0123}",
    ],
)
def test_mistakes_of_alertmanager_do_not_repeat_values(tmp_path: Path, text: str) -> None:
    told = mistake(tmp_path, text)
    assert SECRET not in told
    assert "0123" not in told


@pytest.mark.parametrize("written", ["0123", "12_345", "yes", "2026-11-21", "1.50"])
def test_a_password_that_yaml_reads_otherwise_is_refused(tmp_path: Path, written: str) -> None:
    told = mistake(tmp_path, f"kafka: {{bootstrap.servers: 'a:1', sasl.password: {written}}}")
    assert "sasl.password: put it in quotes" in told
    assert written not in told


def test_it_is_frozen() -> None:
    config = load_config(None, environment={})
    with pytest.raises(ValidationError):
        config.group = "other"  # type: ignore[misc] # what the test is about


def test_every_field_is_described() -> None:
    """The schema is the reference that people read: no key without its meaning."""
    schema = Config.model_json_schema()

    def undescribed(where: str, node: dict[str, Any]) -> list[str]:
        return [
            f"{where}.{name}"
            for name, field in node.get("properties", {}).items()
            if "description" not in field and "$ref" not in json.dumps(field)
        ]

    found = undescribed("", schema)
    for name, definition in schema["$defs"].items():
        found += undescribed(name, definition)
    assert found == []


def test_properties_of_the_registry_come_from_file_and_environment_and_keep_their_secrets() -> None:
    environment = {"DETECTOR_SCHEMA_REGISTRY__BASIC_AUTH_USER_INFO": "me:correct-horse", "DETECTOR_SCHEMA_REGISTRY__TIMEOUT": "7"}
    config = load_config(None, overrides={"schema_registry/url": "https://other:staple-battery@r:8081"}, environment=environment)
    assert config.registry_properties() == {
        "basic.auth.user.info": "me:correct-horse",
        "timeout": "7",
        "url": "https://other:staple-battery@r:8081",
    }
    assert {"correct-horse", "staple-battery"} <= config.secrets
    assert "horse" not in repr(config)
    assert "staple" not in repr(config)
