"""Security in transit on a real broker: TLS, SCRAM, client certificates, permissions. What is wrong is told once, and no secret is."""

from __future__ import annotations

import http.client
import logging
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # its documented place
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from detector.adapters.kafka.client import discard, open_consumer
from detector.adapters.kafka.exactly_once import ExactlyOnce
from detector.adapters.kafka.properties import consumer_properties
from detector.adapters.kafka.static_membership import StaticMembership
from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics
from detector.cli import main
from detector.config import load_config
from detector.errors import LogUnavailable
from tests.broker.secured import KEY_PASSWORD, PASSWORD, WRONG, Secured, configuration, environment
from tests.broker.service import kill_running
from tests.conftest import need_local_kafka
from tests.forked import Forked

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0
TOLD_S_MAX = 30.0  # takes 1 to 3 s on a quiet machine; a loop would take for ever
TOPIC = "sensors"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    need_local_kafka()
    broker = Secured.start(tmp_path_factory.mktemp("secured"))
    create_topics(broker.plain(), [Topic(TOPIC, 2)])
    yield broker
    broker.kafka.kill()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """`detector run` sets up the logs of its process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a command that is to fail; its exit code and its error with the fix, which come once, in seconds, without a secret."""

    def run(kafka: dict[str, str], *command: str, group: str = "plant") -> tuple[int, str]:
        path = configuration(tmp_path, kafka, TOPIC, group)
        for name, value in environment(kafka).items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        begin = time.monotonic()
        code = main([*command, "--config", str(path)])
        assert time.monotonic() - begin < TOLD_S_MAX
        out, err = capfd.readouterr()
        assert "hunter2" not in out + err
        assert "Traceback" not in out + err
        assert [line.partition(" ")[0] for line in err.splitlines() if not line.startswith("{")] == ["error:", "fix:"], err
        return code, err[err.index("error: ") :]

    return run


CLOSED_DOORS: dict[str, tuple[Callable[[Secured], dict[str, str]], int, tuple[str, ...]]] = {
    "wrong password": (lambda it: it.scram(sasl_password=WRONG), 2, ("invalid credentials", "`sasl.password`")),
    "unknown user": (lambda it: it.scram(user="nobody"), 2, ("invalid credentials", "`kafka: sasl.username`")),
    "wrong mechanism": (
        lambda it: it.scram(sasl_mechanism="SCRAM-SHA-256"),
        2,
        ("supported mechanisms: SCRAM-SHA-512", "set `kafka: sasl.mechanism`"),
    ),
    "no such mechanism": (lambda it: it.scram(sasl_mechanism="SCRAM-SHA-513"), 2, ("SCRAM-SHA-513", "under `kafka:`")),
    "Java's way": (lambda it: it.scram(sasl_jaas_config=WRONG), 2, ("JAAS", "sasl.password")),
    "unreadable token": (
        lambda it: it.scram(
            sasl_mechanism="OAUTHBEARER", enable_sasl_oauthbearer_unsecure_jwt="true", sasl_oauthbearer_config="principal=me hunter2-rest"
        ),
        2,
        ("OAUTHBEARER token", "beginning at: ***", "`kafka: sasl.oauthbearer..."),
    ),
    "another authority": (
        lambda it: it.scram(ssl_ca_location=str(it.folder / "other.pem")),
        2,
        ("certificate verify failed", "`kafka: ssl.ca.location`"),
    ),
    "no authority": (lambda it: it.scram(ssl_ca_location="/nowhere.pem"), 2, ("ssl.ca.location failed", "see that the file exists")),
    "expired": (lambda it: it.tls("EXPIRED"), 2, ("certificate verify failed", "must not have expired")),
    "another host": (
        lambda it: it.scram() | {"bootstrap.servers": it.kafka.servers["SCRAM"].replace("127.0.0.1", "localhost")},
        2,
        ("certificate verify failed", "made out to the host"),
    ),
    "no certificate": (lambda it: it.tls("MUTUAL"), 2, ("SSL alert", "set `kafka: ssl.certificate.location`")),
    "locked key": (lambda it: it.mutual(ssl_key_password=WRONG), 2, ("ssl.key.location failed", "`kafka: ssl.key.password`")),
    "SASL at a listener without": (
        lambda it: it.scram("PLAINTEXT", security_protocol="SASL_PLAINTEXT"),
        2,
        ("SASL", "`kafka: security.protocol`"),
    ),
    "plaintext at TLS": (lambda it: it.plain("EXPIRED"), 1, ("drops them", "`kafka: security.protocol`")),
    "TLS at plaintext": (lambda it: it.tls("PLAINTEXT"), 1, ("drops them", "`kafka: security.protocol`")),
}


@pytest.mark.parametrize("door", CLOSED_DOORS)
def test_a_closed_door_is_told_once_and_soon(door: str, secured: Secured, refusal: Callable[..., tuple[int, str]]) -> None:
    properties, expected, facts = CLOSED_DOORS[door]
    code, told = refusal(properties(secured), "topics", "check")
    assert code == expected
    for fact in facts:
        assert fact in told


def test_a_certificate_opens(secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = secured.mutual()
    for name, value in environment(kafka).items():
        monkeypatch.setenv(name, value)
    config = str(configuration(tmp_path, kafka, TOPIC, "certified"))
    assert main(["topics", "create", "--config", config]) == 0
    assert main(["topics", "check", "--config", config]) == 0


@pytest.mark.parametrize("door", ["wrong password", "wrong mechanism", "expired"])
@pytest.mark.parametrize("command", ["run", "topics create", "check"])
def test_every_command_refuses_so(command: str, door: str, secured: Secured, refusal: Callable[..., tuple[int, str]]) -> None:
    properties, expected, facts = CLOSED_DOORS[door]
    code, told = refusal(properties(secured), *command.split())
    assert code == expected
    for fact in facts:
        assert fact in told


ALL_RIGHTS = {
    ("TOPIC", TOPIC, "READ"), ("TOPIC", "GROUP.alerts", "WRITE"), ("TOPIC", "GROUP.dead-letters", "WRITE"),
    ("TOPIC", f"GROUP.{TOPIC}.state", "READ"), ("TOPIC", f"GROUP.{TOPIC}.state", "WRITE"),
    ("GROUP", "GROUP", "READ"), ("TRANSACTIONAL_ID", "GROUP*", "WRITE"),
}  # fmt: skip
# The right that a user lacks. It may still DESCRIBE a topic that it must not read or write: what is not even visible is told as missing.
LACKING = {
    "reader": ("TOPIC", TOPIC, "READ"),
    "writer": ("TOPIC", "GROUP.alerts", "WRITE"),
    "loner": ("GROUP", "GROUP", "READ"),
    "pauper": ("TRANSACTIONAL_ID", "GROUP*", "WRITE"),
}


@pytest.mark.parametrize(
    ("user", "facts"),
    [
        ("reader", ("may not READ sensors", "--operation READ --topic sensors")),
        ("writer", ("may not WRITE reduced-writer.alerts", "--operation WRITE --topic reduced-writer.alerts")),
        ("loner", ("Group authorization failed", "READ on the consumer group")),
        ("pauper", ("Transactional Id authorization failed", "WRITE on the transactional ids")),
    ],
)
def test_a_missing_permission_is_told_at_the_start(
    user: str, facts: tuple[str, ...], secured: Secured, refusal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    group = f"reduced-{user}"
    assert main(["topics", "create", "--config", str(configuration(tmp_path, secured.plain(), TOPIC, group))]) == 0
    lacking = LACKING[user]
    rights = [(user, kind, name.replace("GROUP", group), operation) for kind, name, operation in ALL_RIGHTS - {lacking}]
    if lacking[0] == "TOPIC":
        rights.append((user, "TOPIC", lacking[1].replace("GROUP", group), "DESCRIBE"))
    secured.permit(rights)
    code, told = refusal(secured.scram(user=user), "run", group=group)
    assert code == 2
    for fact in facts:
        assert fact in told


def test_the_rights_that_are_documented_are_enough(secured: Secured, serve: Callable[..., Service], tmp_path: Path) -> None:
    """docs/security.md; also to restore what was saved."""
    kafka, group = secured.scram(user="modest"), "group-modest"
    rights = [(kind, name.replace("GROUP", group).replace(TOPIC, "modest"), operation) for kind, name, operation in ALL_RIGHTS]
    rights += [("TOPIC", f"{group}.*", operation) for operation in ("CREATE", "DESCRIBE", "ALTER")]
    secured.permit([("modest", *right) for right in rights])
    service = serve(kafka, "modest")
    send(secured, "modest", b'{"temperature": 1.0}')
    service.wait_for(lambda: service.metric("detector_messages_polled_total") == 1)
    assert service.end() == 0
    again = Service(tmp_path / f"{group}.yaml", environment(kafka), tmp_path / "again.log")
    try:
        again.wait_for(lambda: again.metric("detector_streams") == 1)
    finally:
        assert again.end() == 0
    named = consumer_properties({**kafka, "group.instance.id": "worker-0"}, group, ExactlyOnce.consumer_required)
    with closing(open_consumer(named, lambda error: None, discard)) as holder:
        holder.subscribe(["modest"])
        while not holder.memberid():
            holder.poll(0.1)
        with pytest.raises(LogUnavailable, match="worker-0 is taken: member worker-0-"):  # who has a name may be seen
            StaticMembership(named, group, discard).check_name_is_free()


class Service:
    """A running `detector run`, and all that it says."""

    def __init__(self, config: Path, secrets: dict[str, str], log: Path) -> None:
        self.log = log
        self.process = Forked(["run", "--config", str(config)], {**secrets, "COLUMNS": "200"}, log, log)
        self.wait_for(lambda: "/metrics" in self.said())
        found = re.search(r":(\d+)/metrics", self.said())
        assert found is not None
        self.port = int(found[1])

    def said(self) -> str:
        return self.log.read_text()

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    def status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().status

    def metric(self, name: str) -> float:
        """Summed over labels."""
        return sum(float(line.rpartition(" ")[2]) for line in self.get("/metrics").splitlines() if re.match(rf"{name}[{{ ]", line))

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if what():
                    return
            except OSError:
                assert self.process.wait(PATIENCE_S) is None, self.said()
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said() + self.get("/metrics")
            time.sleep(0.02)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def serve(tmp_path: Path, secured: Secured, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Creates an input topic and, as a user would, what the service writes; starts the service."""
    services: list[Service] = []

    def start(kafka: dict[str, str], topic: str, **sections: object) -> Service:
        create_topics(secured.plain(), [Topic(topic, 1)])
        config = configuration(tmp_path, kafka, topic, f"group-{topic}", **sections)
        for name, value in environment(kafka).items():
            monkeypatch.setenv(name, value)
        for command in (["topics", "create"], ["topics", "check"], ["check"]):
            assert main([*command, "--config", str(config)]) == 0
        services.append(Service(config, environment(kafka), tmp_path / f"{topic}.log"))
        return services[-1]

    yield start
    kill_running(service.process for service in services)


def send(secured: Secured, topic: str, *values: bytes) -> None:
    with TopicWriter(secured.plain(), topic) as writer:
        for value in values:
            writer.write(b"pump", value)


def told_secrets(kafka: dict[str, str], shown: str) -> list[str]:
    """Those of a client's secrets that are in a text: passwords, and a key's lines."""
    secrets = [PASSWORD, KEY_PASSWORD, *kafka.get("ssl.key.pem", "").splitlines()[1:-1]]
    return [secret for secret in secrets if secret in shown]


def test_it_works_by_certificate_and_tells_no_secret(
    secured: Secured, serve: Callable[..., Service], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kafka = secured.mutual(debug="security,broker")
    for name, text in (("certificate", "ssl.certificate.location"), ("key", "ssl.key.location")):
        kafka[f"ssl.{name}.pem"] = Path(kafka.pop(text)).read_text()
    service = serve(kafka, "certified", log={"level": "debug", "format": "console"})
    send(secured, "certified", b'{"temperature": 1.0}', b"not JSON")
    service.wait_for(lambda: service.metric("detector_messages_polled_total") == 2)
    service.wait_for(lambda: service.metric("detector_dead_letters_total") == 1)
    shown = service.get("/metrics") + service.get("/-/ready")
    assert service.end() == 0
    with TopicReader(secured.mutual(), "group-certified.dead-letters") as reader:
        assert [value for batch in reader.batches() for value in batch.value] == [b"not JSON"]

    assert main(["schema", "config"]) == 0
    config = load_config(tmp_path / "group-certified.yaml")
    shown += "".join(capfd.readouterr()) + repr(config) + str(config) + config.model_dump_json() + service.said()
    assert "SSL_HANDSHAKE" in shown  # librdkafka was as talkative as it can be
    assert told_secrets(kafka, shown) == []


def test_it_works_by_password_and_one_changed_during_the_run_is_an_outage(secured: Secured, serve: Callable[..., Service]) -> None:
    kafka = secured.scram("RENEWED", user="changing", debug="security,broker")
    service = serve(kafka, "renewed", log={"level": "debug", "format": "json"})
    send(secured, "renewed", b'{"temperature": 1.0}')
    service.wait_for(lambda: service.metric("detector_messages_polled_total") == 1)
    change_password(secured, "changing", WRONG)
    service.wait_for(lambda: service.metric("detector_log_unavailable_errors_total") >= 2 and "invalid credentials" in service.said())
    change_password(secured, "changing", PASSWORD)
    send(secured, "renewed", b'{"temperature": 2.0}')
    service.wait_for(lambda: service.metric("detector_messages_polled_total") == 2)
    shown = service.get("/metrics")
    assert service.end() == 0
    shown += service.said()
    assert "AUTH_REQ" in shown
    assert told_secrets(kafka, shown) == []


def test_a_certificate_that_expires_during_the_run_is_an_outage(secured: Secured, serve: Callable[..., Service]) -> None:
    """A connection that stands outlives its certificate: it ends here for a changed password, and the next one meets the new certificate."""
    kafka = secured.scram("RENEWED", user="changing")
    service = serve(kafka, "expiring")
    send(secured, "expiring", b'{"temperature": 1.0}')
    service.wait_for(lambda: service.metric("detector_messages_polled_total") == 1)
    try:
        secured.present("RENEWED", expired=True)
        change_password(secured, "changing", WRONG)
        service.wait_for(lambda: "invalid credentials" in service.said() or "certificate verify failed" in service.said())
        change_password(secured, "changing", PASSWORD)
        service.wait_for(lambda: "certificate verify failed" in service.said() and service.status("/-/ready") == 503)
        service.wait_for(lambda: "must not have expired" in service.said())
    finally:
        secured.present("RENEWED", expired=False)
        change_password(secured, "changing", PASSWORD)
    send(secured, "expiring", b'{"temperature": 2.0}')
    service.wait_for(lambda: service.metric("detector_messages_polled_total") == 2)
    assert service.end() == 0
    assert "Traceback" not in service.said()
    assert told_secrets(kafka, service.said()) == []


def change_password(secured: Secured, user: str, password: str) -> None:
    admin = secured.admin()  # has to outlive the answer
    change = UserScramCredentialUpsertion(user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password.encode())
    for answer in admin.alter_user_scram_credentials([change]).values():
        answer.result()
