"""What is written for people holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detector.cli import app
from detector.config import Config, load_config
from docs import configuration

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_configuration_to_start_from_loads() -> None:
    config = load_config(ROOT / "deploy" / "detector.yaml", environment={})
    assert config.input.topics == ("sensors",)
    assert config.alerts_topic == "plant1.alerts"
    assert config.state_topics == {"sensors": "plant1.sensors.state"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert set(re.findall(r"`detector ([a-z]+)|^detector ([a-z]+)", text, re.MULTILINE)) <= {
        pair for command in commands if command for pair in ((command, ""), ("", command))
    }
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)|^make ([a-z]+)", text, re.MULTILINE)) <= {pair for t in targets for pair in ((t, ""), ("", t))}
    for link in re.findall(r"\]\(([^)h#][^)]*)\)", text):
        assert (page.parent / link).exists(), link
    for test in re.findall(r"`(tests/[a-z_/]+(?:\.py)?)`", text):
        assert (ROOT / test).exists(), test


def test_the_page_of_the_configuration_is_the_code_s() -> None:
    """`make docs` writes it again."""
    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page()


def test_every_variable_of_the_environment_that_is_told_sets_its_field() -> None:
    """With the default's own value, since a variable that sets nothing is an error."""
    told = re.findall(r"^\| `([a-z_.]+)`<br>`(\w+)` \| [^|]+ \| (?:`(.+)`|none) \|", configuration.page(), re.MULTILINE)
    assert ("alerts.budget", "DETECTOR_ALERTS__BUDGET", '"1 per stream per week"') in told
    default = load_config(None, environment={})
    for key, name, value in told:
        if name != "DETECTOR_KAFKA__NAME":
            assert load_config(None, environment={name: value or "null"}) == default, key
    assert set(Config.model_fields) == {key.split(".")[0] for key, *_ in told}
