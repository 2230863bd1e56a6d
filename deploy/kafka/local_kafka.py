"""One node of Apache Kafka on this machine, without Docker: for the tests, and for trying things out.

    python deploy/kafka/local_kafka.py [--port 9092] [--data FOLDER]
    python deploy/kafka/local_kafka.py --fetch

The jars come from Maven Central by the pom.xml beside this file, once, into `.cache/kafka` (or the folder that the
environment variable LOCAL_KAFKA_CACHE names). A first broker then runs once for the JVM to note down what it made of their
classes (class data sharing): those after it start in half the time. Needs Java 17 and Maven. Listens on 127.0.0.1 only. Not
for production: one node, no replication, and a listener without authentication, beside which tests open others.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
CLASSES = "classes.jsa"
START_S_MAX = 60.0
STOP_S_MAX = 15.0
NOTE_S_MAX = 120.0
STARTED = b"Kafka Server started"
_given: set[int] = set()

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={listeners}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocols}
log.dirs={data}/logs

# One node: nothing can be replicated.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
min.insync.replicas=1
# Nobody could take its partitions over; without a leader it would take them for deleted and forget transactions that were decided.
controlled.shutdown.enable=false

# Small: fewer files, a quick start.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1

# A group is there at once; a member that hangs is noticed after seconds where a test asks for it.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# After a hard stop the controller waits this long before it lets the same broker in again.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500

# A misspelt topic is an error. Old recordings keep their time, so nothing is deleted for its age.
auto.create.topics.enable=false
log.retention.ms=-1
"""


class LocalKafkaError(Exception):
    """The broker cannot be fetched or started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A door of the broker.

    protocol  PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
    settings  the listener's own, under Kafka's names
    """

    protocol: str
    settings: Mapping[str, str] = field(default_factory=dict)


class LocalKafka:
    """One KRaft node with a data folder and ports of its own, which it keeps when it is stopped and started again.

    data         folder for logs and settings; created if need be, and left behind
    port         of the broker; None takes a free one
    listeners    further ones by name (capital letters), each on a free port, beside PLAINTEXT
    scram_users  passwords by name, for SCRAM-SHA-512; known to the broker from its first start
    settings     the broker's further settings, under Kafka's names
    jvm          further options of its JVM
    classes      a folder of further Java classes, such as a policy that `settings` name

    servers      bootstrap servers by the listener's name; `bootstrap_servers` are PLAINTEXT's
    """

    def __init__(
        self,
        data: Path,
        port: int | None = None,
        *,
        listeners: Mapping[str, Listener] | None = None,
        scram_users: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        jvm: Sequence[str] = (),
        classes: Path | None = None,
    ) -> None:
        self.data = data.resolve()
        self.port = port or free_port()
        self._listeners = {"PLAINTEXT": Listener("PLAINTEXT"), **(listeners or {})}
        self.servers = {name: f"127.0.0.1:{self.port if name == 'PLAINTEXT' else free_port()}" for name in self._listeners}
        self.bootstrap_servers = self.servers["PLAINTEXT"]
        self._scram_users = dict(scram_users or {})
        self._further = dict(settings or {})
        self._jvm = jvm
        self._classes = classes
        self.server_log = self.data / "server.log"
        self._settings = self.data / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Fetch and format what is not there yet, start, and return when the broker serves requests.

        raises LocalKafkaError  with the end of the server's own log
        """
        if taken(self.port):
            raise LocalKafkaError(f"port {self.port} is taken on 127.0.0.1: choose another with --port")
        libs = fetch_jars()
        self.data.mkdir(parents=True, exist_ok=True)
        self._settings.write_text(self._properties())
        if not (self.data / "logs" / "meta.properties").exists():
            self._format(libs)
        log_start = self.server_log.stat().st_size if self.server_log.exists() else 0
        with self.server_log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                java(
                    libs,
                    "-Xmx512m",
                    "-Dlog4j2.level=INFO",
                    *self._jvm,
                    main="kafka.Kafka",
                    arguments=[str(self._settings)],
                    classes=self._classes,
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the person's process, which then stops this one
            )
        deadline = time.monotonic() + START_S_MAX
        while STARTED not in self._log_since(log_start):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise LocalKafkaError(f"Kafka did not start. The end of {self.server_log}:\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self, patience_s: float = STOP_S_MAX) -> None:
        """Stop the broker: ask, then insist. Its data stays. Idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Stop the broker as a power cut would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose_last_segment(self, topic: str, partition: int) -> int:
        """What a broken disk may do to a stopped broker: the last segment of a log is gone. The offset at which the log ends now."""
        folder = self.data / "logs" / f"{topic}-{partition}"
        last = max(each.stem for each in folder.glob("*.log"))
        for file in folder.glob(f"{last}.*"):
            file.unlink()
        (self.data / "logs" / ".kafka_cleanshutdown").unlink(missing_ok=True)  # it looks at its logs anew
        return int(last)

    def wait(self) -> int:
        """Wait until the broker ends by itself; its exit code."""
        return self._process.wait() if self._process is not None else 0

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the server's log."""
        if not self.server_log.exists():
            return "(no log)"
        return "\n".join(self.server_log.read_text(errors="replace").splitlines()[-lines:])

    def _log_since(self, start: int) -> bytes:
        with self.server_log.open("rb") as log:
            log.seek(start)
            return log.read()

    def _properties(self) -> str:
        """The text of server.properties."""
        text = PROPERTIES.format(
            listeners=",".join(f"{name}://{server}" for name, server in self.servers.items()),
            protocols=",".join(f"{name}:{listener.protocol}" for name, listener in self._listeners.items()),
            controller_port=free_port(),
            data=self.data,
        )
        further = dict(self._further)
        for name, listener in self._listeners.items():
            further |= {f"listener.name.{name.lower()}.{setting}": value for setting, value in listener.settings.items()}
        lines = [f"{setting}={value}".replace("\n", "\\n") for setting, value in further.items()]  # keys in PEM have several lines
        return "\n".join([text, *lines, ""])

    def _format(self, libs: Path) -> None:
        # A cluster id is 16 random bytes in base64 that must not start with a dash.
        cluster_id = "A" + base64.urlsafe_b64encode(os.urandom(16)).decode()[1:22]
        arguments = ["format", "-t", cluster_id, "-c", str(self._settings)]
        for name, password in self._scram_users.items():
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        command = java(libs, main="kafka.tools.StorageTool", arguments=arguments, classes=self._classes)
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        if done.returncode != 0:
            raise LocalKafkaError(f"Kafka's data folder {self.data} could not be formatted:\n{done.stdout}{done.stderr}")


def missing_tools() -> str:
    """What is needed and not there, as one sentence; empty if nothing is missing."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if missing == ["mvn"] and jars_folder().exists():
        missing = []
    return f"{' and '.join(missing)} not found: install Java 17 and Maven" if missing else ""


def jars_folder() -> Path:
    """Where the jars of the present pom.xml belong: another pom, another folder."""
    cache = Path(os.environ.get("LOCAL_KAFKA_CACHE") or HERE.parent.parent / ".cache" / "kafka")
    return cache / f"jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def fetch_jars() -> Path:
    """Fetch the broker's jars once; the folder that holds them.

    raises LocalKafkaError  with Maven's own words
    """
    if missing := missing_tools():
        raise LocalKafkaError(missing)
    folder = jars_folder()
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fetched = Path(tempfile.mkdtemp(dir=folder.parent))
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode != 0:
        shutil.rmtree(fetched)
        raise LocalKafkaError(f"Maven could not fetch Kafka's jars:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    try:
        fetched.rename(folder)
    except OSError:  # another process fetched them at the same time
        shutil.rmtree(fetched)
    else:
        _note_classes(folder)
    return folder


def _note_classes(libs: Path) -> None:
    """Run a broker once that leaves the archive of its classes. Where that fails, brokers start without it."""
    noted = libs / f"{CLASSES}.new"
    with tempfile.TemporaryDirectory(prefix="kafka-") as data:
        broker = LocalKafka(Path(data), jvm=[f"-XX:ArchiveClassesAtExit={noted}"])
        try:
            broker.start()
        except LocalKafkaError:
            return
        finally:
            broker.stop(NOTE_S_MAX)
    if noted.exists():
        noted.rename(libs / CLASSES)


def java(libs: Path, *options: str, main: str, arguments: list[str], classes: Path | None = None) -> list[str]:
    """A Java command line over all jars of a folder, and a folder of further classes."""
    noted = libs / CLASSES
    known = [f"-XX:SharedArchiveFile={noted}"] if noted.exists() else []  # of another Java it is ignored
    path = f"{libs}/*" if classes is None else f"{libs}/*:{classes}"  # what the archive was made from comes first
    return ["java", "-XX:+UseSerialGC", *known, *options, "-cp", path, main, *arguments]


def free_port() -> int:
    """A loopback port that is free now, and was not given before.

    Below those that Linux gives to outgoing connections: a node that is started again must find its port free.
    """
    while True:
        port = random.randrange(20_000, 32_768)  # noqa: S311 - nothing secret
        if port not in _given and not taken(port):
            _given.add(port)
            return port


def taken(port: int) -> bool:
    """Whether someone listens on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> int:
    """Run one node until Ctrl-C or SIGTERM; the first line printed is its bootstrap address."""
    parser = argparse.ArgumentParser(description="One node of Apache Kafka on 127.0.0.1, without Docker.")
    parser.add_argument("--port", type=int, default=9092, help="port of the broker (default 9092)")
    parser.add_argument("--data", type=Path, help="folder that keeps its data; without it a temporary one, removed at the end")
    parser.add_argument("--fetch", action="store_true", help="only fetch what it needs, unless it is there")
    options = parser.parse_args()
    data = options.data or Path(tempfile.mkdtemp(prefix="kafka-"))
    broker = LocalKafka(data, options.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.fetch:
            print(f"kafka: {fetch_jars()}")  # noqa: T201 - the answer
            return 0
        broker.start()
        print(broker.bootstrap_servers, flush=True)  # noqa: T201 - the answer
        print("Kafka is running. Ctrl-C stops it.", file=sys.stderr)  # noqa: T201
        return broker.wait()
    except LocalKafkaError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        broker.stop()
        if options.data is None:
            shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
