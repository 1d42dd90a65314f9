"""The documents keep up with the code: commands, settings, fault points, links, paths, and the Python API."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from flows.cli import parser
from rag.chunking.registry import CHUNKERS
from rag.index.kinds import INDEX_KINDS
from rag.retrieval.retrievers import RETRIEVERS
from rag.settings import Chunking, Index, Retrieval, Settings

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
MANUALS = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    # the shipped corpus is data, and a prompt is a prompt
    if not {part for part in path.relative_to(ROOT).parts if part.startswith(".")}
    and not path.is_relative_to(ROOT / "data" / "corpus")
    and not path.is_relative_to(ROOT / "data" / "store")
    and not path.is_relative_to(ROOT / "rag")
)
MANUAL_TEXT = "\n".join(path.read_text(encoding="utf-8") for path in MANUALS if path.exists())


@functools.cache
def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def flags() -> set[tuple[str, ...]]:
    """Every flag of every command, with its short form where it has one."""
    actions = [action for made in [parser(), *commands().values()] for action in made._actions]
    return {tuple(action.option_strings) for action in actions if action.option_strings}


def mentioned(words: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", MANUAL_TEXT) is not None


def test_every_command_is_in_the_manual() -> None:
    names = [f"ragline {name}" for name in commands()]
    (actions,) = [action.choices for action in commands()["cache"]._actions if action.dest == "action"]
    assert actions is not None
    names += [f"cache {action}" for action in actions]
    assert [name for name in names if not mentioned(name)] == []


def test_every_flag_is_in_the_manual() -> None:
    assert sorted(forms for forms in flags() if not any(map(mentioned, forms))) == []


def test_the_manual_names_no_flag_or_command_that_is_gone() -> None:
    # the magic of a format reads like a command
    text = MANUAL_TEXT.replace("`ragline snapshot`", "")
    for line in re.findall(r"(?:^|`|\$ )ragline ([a-z].*?)(?:`|$)", text, re.MULTILINE):
        name = line.split()[0]
        assert name in commands(), line
        known = {flag for action in commands()[name]._actions for flag in action.option_strings}
        used = set(re.findall(r"(?<!\S)(--[a-z][a-z-]*|-[a-z])\b", line.partition("#")[0]))
        assert used <= known, line


def settings_table() -> dict[str, str]:
    """setting -> the cell of its default, of the table in docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([\w.]+)` \| *(.*?) *\|", text.partition("\n## Settings")[2], re.MULTILINE))


def test_every_setting_is_in_the_table_with_its_default() -> None:
    defaults = {place: value for place, value, _ in Settings().rows()}
    table = settings_table()
    assert sorted(defaults.keys() - table.keys()) == []
    assert sorted(name for name in table.keys() - defaults.keys() if "." in name) == []
    for place, value in defaults.items():
        cell = table[place].strip("`")
        plain: Any = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
        assert (tomllib.loads(f"value = {cell}")["value"] if cell else None) == (
            plain or None if not cell else plain
        ), place


@pytest.mark.parametrize(
    ("section", "key", "registry", "more"),
    [
        (Chunking, "strategy", CHUNKERS, set()),
        (Index, "kind", INDEX_KINDS, {"auto"}),
        (Retrieval, "mode", RETRIEVERS, set()),
    ],
)
def test_settings_take_exactly_the_names_of_the_registry(section: Any, key: str, registry: Any, more: set[str]) -> None:
    names = {*registry, *more}
    assert set(get_args(section.model_fields[key].annotation)) == names
    cell = re.search(rf"`{section.__name__.lower()}\.{key}` \|[^|]*\|(.*)\|", MANUAL_TEXT)
    assert cell is not None
    assert set(re.findall(r"`(\w+)`", cell[1])) == names


def test_the_architecture_names_every_registry() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    registries = re.findall(r"[A-Z]+_?[A-Z]+S\b", (ROOT / "rag" / "ports.py").read_text().partition('"""\n')[0])
    assert len(registries) == 6
    for name in registries:
        assert re.search(rf"The line, in `{name}` of `rag/", text), name


def fault_points() -> set[str]:
    sources = (path.read_text(encoding="utf-8") for path in sorted((ROOT / "rag").rglob("*.py")))
    return {name for text in sources for name in re.findall(r'faultpoint\("([^"]+)"\)', text)}


def points_of_tests() -> Iterator[str]:
    """Every fault point that a fault test names, and those that one collects from the code as this test does."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path == Path(__file__) or not re.search(r"RAGLINE_FAULT|tests\.forked", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value.partition(":")[0]
    from tests.index.test_versions_killed import POINTS

    yield from POINTS


def test_every_fault_point_is_in_a_fault_test() -> None:
    points = fault_points()
    assert len(points) > 20
    assert sorted(points - set(points_of_tests())) == []


def test_no_fault_test_waits_for_a_point_that_is_gone() -> None:
    from tests.pipeline.test_faults import POINTS

    assert sorted(set(POINTS) - fault_points()) == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_inside_the_house_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", MANUALS, ids=lambda path: path.name)
def test_paths_in_the_manual_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:rag|eval|flows|tests|docs|benchmarks|data)/[\w./-]*[\w/])`", text)
    ours = [path for path in paths if not path.startswith("data/store") and "NAME" not in path]
    assert [path for path in ours if not (ROOT / path).exists()] == []


def test_the_snippets_of_the_readme_are_type_checked() -> None:
    checked = re.sub(r"  # noqa.*$", "", (ROOT / "tests" / "typing_api.py").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in checked.splitlines() if line.strip()]
    snippets = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert snippets
    for snippet in snippets:
        wanted = [line.strip() for line in textwrap.dedent(snippet).splitlines() if line.strip()]
        if wanted[0] == "import rag":
            assert wanted.pop(0) in lines
        assert any(lines[at : at + len(wanted)] == wanted for at in range(len(lines))), wanted


def test_the_tables_of_limits_are_those_that_were_measured_and_nothing_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench = importlib.import_module("bench_limits")
    results = json.loads((ROOT / "benchmarks" / "results" / "limits.json").read_text(encoding="utf-8"))["results"]
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert bench.rewritten(page, results) == page
    for made in [*results["alone"], *results["shared"]]:
        assert (made["lost"], made["billed_twice"]) == (0, 0)
    for made in results["alone"]:  # what README promises
        assert made["ratio"] <= 1.05
        assert made["refused"] == ("drained" in made["run"])


def test_the_tables_of_public_sets_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    bench = importlib.import_module("bench_public")
    results = json.loads((ROOT / "benchmarks" / "results" / "public.json").read_text(encoding="utf-8"))["results"]
    page = (ROOT / "docs" / "retrieval.md").read_text(encoding="utf-8")
    assert bench.rewritten(page, results) == page
    # what is said beside them
    for found in results.values():
        assert all(each["hybrid_minus_it"][2] >= 0 for each in found["hybrid_against_the_better_side"].values())
        lexical = found["modes"]["lexical"]["measures"]
        assert all(abs(lexical[name]["mean"] - figure) <= 0.01 for name, figure in found["reference"].items())
