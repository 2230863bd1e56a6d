"""Shared by all tests: a real Kafka, started on first use, and topics of one's own on it."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `deploy` is no installed package

from deploy.kafka.local_kafka import LocalKafka, LocalKafkaError, fetch_jars, missing_tools
from detector.adapters.kafka.topics import Topic, create_topics
from tests.parts.parts import PartMissing, part

MakeTopic = Callable[..., str]
AWS_SECRET = "hunter2-aws/made+up"
TESTS = Path(__file__).resolve().parent
LONGEST = (
    "chaos/test_chaos.py",
    "broker/test_run.py",
    "broker/test_first_use.py",
    "test_demo.py",
    "simulation/test_seeds.py",
    "core/test_cut_invariance.py",
    "deploy/test_package.py",
    "chaos/test_broken.py",
    "broker/test_schema_registry.py",
    "broker/test_recordings.py",
    "broker/test_security.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: where several processes share them, what begins last should be soon done."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka: the one in KAFKA_BOOTSTRAP_SERVERS, else a local one for this session."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given
        return
    need_local_kafka()
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker.bootstrap_servers
    broker.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """A started broker of this test's own, to be stopped and started at will."""
    need_local_kafka()
    broker = LocalKafka(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


def need_local_kafka() -> None:
    """Skip, loudly, where no local Kafka can be run; in CI that is a failure."""
    try:
        reason = missing_tools()
        if not reason:
            fetch_jars()
    except LocalKafkaError as error:
        reason = str(error)
    if reason:
        go_without(f"NO KAFKA: {reason}; or set KAFKA_BOOTSTRAP_SERVERS to one that runs")


def need_part(name: str) -> Path:
    """A real program of `tests/parts`; skips, loudly, where it cannot be had; in CI that is a failure."""
    try:
        return part(name)
    except PartMissing as error:
        go_without(f"NO {name.upper()}: {error}")


def go_without(message: str) -> NoReturn:
    """Skip a test whose real part is not to be had. In CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made-up AWS credentials in the environment, and no others; the folder of the files that AWS' programs would look at."""
    try:
        import aws_msk_iam_sasl_signer  # noqa: F401
    except ImportError:
        go_without("NO AWS SIGNER: install the extra `aws`")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "credentials"))
    return tmp_path


@pytest.fixture
def make_topic(kafka: str) -> MakeTopic:
    """`make_topic("readings", partitions=4)` creates a topic whose name begins so and occurs nowhere else."""

    def make(prefix: str = "readings", partitions: int = 1, settings: dict[str, str] | None = None) -> str:
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        create_topics({"bootstrap.servers": kafka}, [Topic(name, partitions, settings or {})])
        return name

    return make


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """Labelled recordings, outside of the repository: in DETECTOR_BENCHMARK_DATA, else in `../shared/data` beside it."""
    folder = Path(os.environ.get("DETECTOR_BENCHMARK_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    missing = [name for name in ("NAB", "SKAB", "SMD") if not (folder / name).is_dir()]
    if missing:
        go_without(f"NO BENCHMARK DATA: {folder} has no {', '.join(missing)}; name another folder in DETECTOR_BENCHMARK_DATA")
    return folder


@pytest.fixture(scope="session")
def plant_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of a day of a simulated plant of eight machines with two faults, as Parquet."""
    from detector.cli import main

    path = tmp_path_factory.mktemp("recording") / "plant.parquet"
    assert (
        main(["simulate", "--out", str(path), "--machines", "8", "--interval-s", "10", "--hours", "6", "--faults", "2", "--seed", "5"]) == 0
    )
    return path


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory, plant_recording: Path) -> Path:
    """A bundle for the plant's channels whose network was never trained; its score and calibration are measured."""
    import numpy as np

    from detector.adapters.bundle import Bundle, save_bundle
    from detector.adapters.recordings.reader import read_recording
    from detector.core.alarm import Prior
    from detector.core.model import Model
    from detector.core.scaler import Scaling
    from detector.lab.calibration import calibrate
    from tests.core.builders import network_of

    recording = read_recording(plant_recording)
    values = recording.value[:3_000].astype(np.float32)
    scaling = Scaling.fit(values)
    x = scaling.scaled(values)
    network, score = network_of(len(recording.channels), hidden=8), calibrate([values], [x], [x], [0])
    folder = tmp_path_factory.mktemp("models") / "small"
    save_bundle(folder, Bundle(Model("", "", recording.channels, network, scaling, score, Prior(3.0, 0.5))))
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what was skipped for want of a real part: a quiet skip would look like success."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        if "NO " in reason:
            terminalreporter.write_line(f"SKIPPED: {reason}", red=True, bold=True)
