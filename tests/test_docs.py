"""What is written for people holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.adapters.bundle import load_bundle
from detector.cli import app
from detector.codec.state_serde import RowCodec
from detector.config import Config, load_config
from detector.config.secrets import SECRET_NAME
from detector.core.detect import Detector, Settings
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
    assert set(re.findall(r"`detector ([a-z-]+)|^detector ([a-z-]+)", text, re.MULTILINE)) <= {
        pair for command in commands if command for pair in ((command, ""), ("", command))
    }
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)|^make ([a-z]+)", text, re.MULTILINE)) <= {pair for t in targets for pair in ((t, ""), ("", t))}
    for link, anchor in re.findall(r"\]\(([^)h#][^)#]*)(?:#([^)]*))?\)", text):
        assert (page.parent / link).exists(), link
        assert not anchor or anchor in anchors(page.parent / link), f"{link}#{anchor}"
    for test in re.findall(r"`(tests/[a-z_/]+(?:\.py)?)`", text):
        assert (ROOT / test).exists(), test


def anchors(page: Path) -> set[str]:
    """What links can point to in a page: its headings, as the usual renderers of Markdown write them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_the_configuration_is_the_code_s() -> None:
    """`make docs` writes it again."""
    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page()


def test_every_variable_of_the_environment_that_is_told_sets_its_field() -> None:
    """With the default's own value, since a variable that sets nothing is an error."""
    told = re.findall(r"^\| `([a-z_.]+)`<br>`(\w+)` \| [^|]+ \| (?:`(.+)`|none) \|", configuration.page(), re.MULTILINE)
    assert ("alerts.budget", "DETECTOR_ALERTS__BUDGET", '"1 per stream per week"') in told
    default = load_config(None, environment={})
    for key, name, value in told:
        # In a mapping each entry has a variable; and text that is secret is taken as it is: it cannot say that there is none.
        if not name.endswith("__NAME") and (value or not SECRET_NAME.search(key)):
            assert load_config(None, environment={name: value or "null"}) == default, key
    assert set(Config.model_fields) == {key.split(".")[0] for key, *_ in told}


def test_the_bytes_per_stream_of_the_sizing_page() -> None:
    sizing = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
    assert "| 289 + 8 H L + 145 D |" in sizing
    assert "| 4,113 + 1,125 D |" in sizing
    for model, channels, stated in (
        ("plant", 4, 289 + 8 * 64 + 145 * 4),
        ("universal", 1, 4_113 + 1_125),
        ("universal", 16, 4_113 + 1_125 * 16),
    ):
        named = [f"c{i}" for i in range(channels)]
        detector = Detector(load_bundle(model, named), Settings(budget_period_us=1e12))
        assert RowCodec(detector.states.columns).row_bytes == stated


def test_every_line_of_warning_is_explained() -> None:
    """docs/log-lines.md quotes what the service's rooms say as a warning or an error, and librdkafka's helpers through `on_log`."""
    page = (ROOT / "docs" / "log-lines.md").read_text(encoding="utf-8")
    files = [path for room in ("service", "adapters") for path in sorted((ROOT / "detector" / room).rglob("*.py"))]
    lines = [line for path in [*files, ROOT / "detector" / "cli" / "run.py"] for line in _warnings(path)]
    assert "commit aborted: state is discarded and restored" in lines
    assert [line for line in lines if line not in page] == []


def _warnings(path: Path) -> Iterator[str]:
    """The longest constant piece of each line that a file says as a warning or an error."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called, arguments = ast.unparse(node.func), node.args
        if (
            called.endswith(("logger.log", "on_log"))
            and len(arguments) == 2
            and ast.unparse(arguments[0]) in ("'warning'", "'error'", "level")
        ):
            arguments = arguments[1:]
        elif not re.search(r"(logger|logger|getLogger\(__name__\))\.(warning|error)$", called):
            continue
        pieces = [each.value for each in ast.walk(arguments[0]) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if pieces:
            yield max(pieces, key=len).strip(": ")
