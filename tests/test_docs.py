"""What the documents say can be done: commands parse, Python has arguments that exist, links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import warmstart
from warmstart.cli.reference import all_commands, render
from warmstart.cli.reference import main as write_reference
from warmstart.core.options import STRATEGIES
from warmstart.data import checks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = dict(all_commands())
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page that are in one of these languages."""
    return [text for language, text in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def command_lines(path: Path) -> list[str]:
    """`warmstart …` lines in the shell blocks of a page, continued lines joined."""
    joined = "\n".join(blocks(path, "bash", "sh", "console")).replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ") for line in joined.splitlines())
    return [line for line in lines if line.startswith("warmstart ")]


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_of(line: str) -> tuple[str, list[str]]:
    """The full name of a line's command, and its arguments."""
    _, *words = shlex.split(line, comments=True)
    size = 2 if " ".join(words[:2]) in COMMANDS else 1
    return " ".join(words[:size]), words[size:]


ALL_LINES = [(path.name, line) for path in PAGES for line in command_lines(path)]


def test_there_is_something_to_check() -> None:
    assert {command_of(line)[0] for _, line in ALL_LINES} == set(COMMANDS)


@pytest.mark.parametrize(("page", "line"), ALL_LINES)
def test_command_lines_parse(page: str, line: str) -> None:
    """As the command line itself parses them: options, choices, numbers, what is required. Nothing is run."""
    name, arguments = command_of(line)
    context = COMMANDS[name].make_context(name, arguments)
    assert context.params


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_options_named_in_the_text_exist(path: Path) -> None:
    parameters = [parameter for command in COMMANDS.values() for parameter in command.params]
    known = {flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "--version", "--check", "--local-dir", "--nproc-per-node"}
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)) <= known


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_compiles_and_its_arguments_exist(path: Path) -> None:
    for text in blocks(path, "python"):
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "warmstart":
                parameters = inspect.signature(getattr(warmstart, node.func.attr)).parameters
                assert {keyword.arg for keyword in node.keywords} <= set(parameters)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_inside_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_command_has_a_page_and_a_row() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"| `warmstart {name}` |" in readme
        assert name == "sample" or (ROOT / "docs" / f"{name.split()[0]}.md").is_file()


def test_reference_is_fresh() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == render(), "run: make docs"


def test_reference_names_every_option() -> None:
    text = render()
    for name, command in COMMANDS.items():
        section = text.split(f"## `warmstart {name}`")[1].split("\n## ")[0]
        for parameter in command.params:
            shown = parameter.name.upper() if not parameter.opts[0].startswith("-") else parameter.opts[0]
            assert f"`{shown}`" in section


def test_reference_check_tells_stale_from_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "cli.md"
    assert write_reference([str(page), "--check"]) == 1
    assert write_reference([str(page)]) == 0
    assert write_reference([str(page), "--check"]) == 0
    page.write_text("old", encoding="utf-8")
    assert write_reference([str(page), "--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "old"
    assert write_reference([]) == 2


def test_data_page_has_every_check_with_its_effect() -> None:
    """The table in docs/data.md says what the one at the top of data/checks.py says."""
    rows = re.findall(r"^\| (\w+) \| (stop|warn)( \*)? \|", inspect.getdoc(checks) or "", re.MULTILINE)
    assert len(rows) > 10
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for name, severity, droppable in rows:
        effect = "stops" if severity == "stop" else "warns"
        assert f"| `{name}` | {effect} | {'leaves out' if droppable else '–'} |" in text


def test_strategies_page_has_every_strategy() -> None:
    headings = anchors(ROOT / "docs" / "strategies.md")
    assert set(STRATEGIES) <= headings
