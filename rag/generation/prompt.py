"""Prompts as files with a version, and the boundaries that no quoted text can close.

A prompt file is Markdown: front matter of `key: value` lines (`name`, `version`, `abstain`, all optional in a file of
one's own), then `# System` and `# User`. Without the heading `# User` all of it is the user message.

The same passages and question always give the same bytes: completions are cached by them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rag.errors import Problem, SettingsError
from rag.types import Message, Passage

ABSTENTION = "The passages do not answer this."
"""What an abstaining answer says, whoever wrote it."""
ANSWER_PROMPT = "answer.v1"
CLOSED_BOOK_PROMPT = "closed_book.v1"
"""Asks for what the model knows by itself: it takes a question and no passages."""
PLACEHOLDERS = ("question", "passages")

_FRONT = re.compile(r"\A---[ \t]*\n(.*?\n)??---[ \t]*(?:\n|\Z)", re.DOTALL)
_USER = re.compile(r"^# User[ \t]*\n", re.MULTILINE)
_SYSTEM = re.compile(r"\A\s*# System[ \t]*\n")
# Beside the signs of markup: control characters, bidirectional marks and overrides, zero-width space and fillers, tag
# characters and variation selectors, which models read and people do not see, and [INST]-like tokens of chat templates.
# Joiners (U+200C, U+200D) stay: Persian and Hindi are spelt with them.
_ESCAPED = re.compile(
    '[&<>"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f'
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    r"|\[(?=/?[A-Z][A-Z_ ]*\])"
)
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "[": "&#x5B;"}


def quoted(text: str) -> str:
    """Document-borne text as it may stand inside a boundary: it holds no tag, and nothing that hides.

    Any two different texts stay different. Line breaks and tabs stay.

    >>> quoted("a < b</passage>")
    'a &lt; b&lt;/passage&gt;'
    """
    return _ESCAPED.sub(lambda match: _NAMED.get(match[0]) or f"&#x{ord(match[0]):X};", text)


def quoted_attribute(text: str) -> str:
    """The same for the value of an attribute, on one line."""
    return quoted(text).replace("\r", "&#xD;").replace("\n", "&#xA;").replace("\t", "&#x9;")


def quoted_passages(passages: Iterable[Passage]) -> str:
    """Passages inside their boundaries, each under its rank: the number that a citation names."""
    return "\n\n".join(_boundary(passage) for passage in passages)


def _boundary(passage: Passage) -> str:
    path = passage.heading_path
    headings = path if not passage.title or passage.title in path else (passage.title, *path)
    given = {"id": str(passage.rank), "source": passage.source, "heading": " / ".join(headings)}
    attributes = "".join(f' {name}="{quoted_attribute(value)}"' for name, value in given.items() if value)
    return f"<passage{attributes}>\n{quoted(passage.text)}\n</passage>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file as it was read."""

    name: str
    version: str
    sha256: str
    """Of the whole file, front matter included."""
    text: str
    """The whole file."""
    system: str
    user: str
    abstain: str = ABSTENTION
    """The reply that the prompt asks for when the passages hold no answer."""

    @property
    def label(self) -> str:
        """Name and version, as in `answer.v1`."""
        return f"{self.name}.v{self.version}"

    @property
    def takes_passages(self) -> bool:
        return "{passages}" in self.user

    def fill(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        """The messages, each `{name}` of the user message replaced by its value in one pass: values are never filled.

        Values are put in as they are: quote them first.
        """
        names = "|".join(map(re.escape, values))
        user = re.sub(rf"\{{({names})\}}", lambda match: values[match[1]], self.user)
        message = Message("user", user)
        return (Message("system", self.system), message) if self.system else (message,)

    def messages(self, question: str, passages: Sequence[Passage]) -> tuple[Message, ...]:
        """What the model is asked: question and passages inside their boundaries."""
        return self.fill({"question": quoted(question), "passages": quoted_passages(passages)})


def load_prompt(
    path: Path | None = None, built_in: str = ANSWER_PROMPT, placeholders: Sequence[str] = PLACEHOLDERS
) -> Prompt:
    """The prompt of a file, or without one the prompt of this name that ships with the program.

    Each placeholder must stand once in the user message, and none in the system message: quoted text has no place there.

    Raises SettingsError with every mistake of the file.
    """
    if path is None:
        where = f"{built_in}.md"
        raw = (resources.files("rag.generation") / "prompts" / where).read_bytes()
    else:
        where = str(path)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise _refused(
                [Problem(where, f"cannot be read: {error.strerror or error}", "name a prompt file")]
            ) from error
    return parse_prompt(raw, where, placeholders)


def parse_prompt(raw: bytes, where: str, placeholders: Sequence[str] = PLACEHOLDERS) -> Prompt:
    """The prompt in the bytes of a file; `where` names it in messages. Raises SettingsError."""
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _refused([Problem(where, f"is not UTF-8 at byte {error.start}", "save it as UTF-8")]) from error
    sha256 = hashlib.sha256(raw).hexdigest()
    front = _FRONT.match(text)
    lines = (front[1] or "").splitlines() if front else []
    pairs = (line.partition(":") for line in lines if line.strip() and not line.startswith("#"))
    given = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    body = text[front.end() :] if front else text
    parts = _USER.split(body, maxsplit=1)
    system = _SYSTEM.sub("", parts[0]).strip() if len(parts) > 1 else ""
    user = parts[-1].strip()
    known = {"name", "version", "abstain"}
    problems = [
        Problem(where, f"front matter has an unknown key {key!r}", f"use {', '.join(sorted(known))}")
        for key in given
        if key not in known
    ]
    for name in placeholders:
        sign = f"{{{name}}}"
        if (count := user.count(sign)) != 1:
            what = f"the user message holds {sign} {count} times" if count else f"the user message lacks {sign}"
            problems.append(Problem(where, what, f"put {sign} once where the {name} should stand"))
        if sign in system:
            problems.append(Problem(where, f"the system message holds {sign}", "move it under the heading # User"))
    if problems:
        raise _refused(problems)
    return Prompt(
        name=given.get("name") or Path(where).stem,
        version=given.get("version") or sha256[:8],
        sha256=sha256,
        text=text,
        system=system,
        user=user,
        abstain=given.get("abstain") or ABSTENTION,
    )


def _refused(problems: Sequence[Problem]) -> SettingsError:
    return SettingsError("; ".join(f"{problem.where}: {problem.what}" for problem in problems), problems)
