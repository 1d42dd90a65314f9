"""The judge's prompts: files with a version, and everything judged inside boundaries that it cannot close."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Final

from rag.errors import Problem, RaglineError, SettingsError
from rag.generation.prompt import Prompt, parse_prompt, quoted, quoted_passages
from rag.types import Message, Passage

PROMPTS: Final[Mapping[str, tuple[str, ...]]] = {
    "correctness": ("question", "expected", "answer"),
    "faithfulness": ("passages", "question", "answer"),
    "answer_relevance": ("question", "answer"),
    "context_precision": ("passages", "question", "expected"),
    "context_recall": ("passages", "question", "expected"),
}
"""Each prompt by its name, with what stands in it."""
VERSION: Final = "v1"


def load_prompts(own: Path | None = None) -> dict[str, Prompt]:
    """The five prompts by name.

    Parameters
    ----------
    own
        A prompt file, or a folder of `*.md`, that takes the place of those of the same `name` in their front matter. Its
        placeholders are those of `PROMPTS`, and it must ask for the reply that the shipped one asks for.

    Raises SettingsError with every mistake of every file.
    """
    found = dict(_shipped())
    taken: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in _files(own) if own else ():
        try:
            prompt = _own(path)
        except RaglineError as error:
            problems += error.problems
            continue
        if prompt.name in taken:
            what = f"{prompt.name} is in {taken[prompt.name].name} already"
            problems.append(Problem(str(path), what, "leave one of them in the folder"))
        taken[prompt.name] = path
        found[prompt.name] = prompt
    if problems:
        raise SettingsError("; ".join(f"{each.where}: {each.what}" for each in problems), problems)
    return found


def judging_messages(
    prompt: Prompt,
    question: str,
    expected: Collection[str] = (),
    answer: str = "",
    passages: Sequence[Passage] = (),
    mistake: str | None = None,
) -> tuple[Message, ...]:
    """What the judge is asked. The passages are numbered from 1 in the order given.

    `mistake`, in words of ours, says why the first reply was of no use; no text of that reply is sent again.
    """
    values = {
        "question": quoted(question),
        "expected": "\n".join(f"<expected>\n{quoted(text)}\n</expected>" for text in expected),
        "answer": quoted(answer),
        "passages": quoted_passages(replace(each, rank=number) for number, each in enumerate(passages, start=1)),
    }
    *before, user = prompt.fill(values)
    if mistake is None:
        return (*before, user)
    again = (
        f"\n\nYou were asked this before, and your reply could not be read: {mistake}. "
        "Reply again, with the JSON object in the form that was asked for and nothing else."
    )
    return (*before, replace(user, content=user.content + again))


@functools.cache
def _shipped() -> Mapping[str, Prompt]:
    folder = resources.files("eval") / "prompts"
    files = {name: f"{name}.{VERSION}.md" for name in PROMPTS}
    return {name: parse_prompt((folder / file).read_bytes(), file, PROMPTS[name]) for name, file in files.items()}


def _files(own: Path) -> list[Path]:
    files = sorted(own.glob("*.md")) if own.is_dir() else [own]
    if not files:
        what = "there is no prompt file (*.md) in the folder"
        raise SettingsError.at(str(own), what, f"put in one of {', '.join(PROMPTS)}, or leave judge.prompt out")
    return files


def _own(path: Path) -> Prompt:
    try:
        raw = path.read_bytes()
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise SettingsError.at(str(path), what, "name a prompt file, or a folder of them, as judge.prompt") from error
    name = parse_prompt(raw, str(path), ()).name
    if name not in PROMPTS:
        what = f"its front matter gives the name {name!r}, and no prompt of the judge has it"
        raise SettingsError.at(str(path), what, f"write `name:` with one of {', '.join(PROMPTS)}")
    return parse_prompt(raw, str(path), PROMPTS[name])
