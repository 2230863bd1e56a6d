"""Shared by the tests on a real Kafka: services of a test's own, which do not outlive it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broker.service import Service, kill_running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], Service]]:
    services: list[Service] = []

    def start(options: list[str]) -> Service:
        services.append(Service(options, tmp_path))
        return services[-1]

    yield start
    kill_running(service.process for service in services)
