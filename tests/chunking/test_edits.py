"""An edit of one line changes as few texts as possible."""

from __future__ import annotations

import dataclasses
import random
import re
import statistics

import pytest

from rag.types import Chunk, Document

_WORDS = [
    "alpha",
    "value",
    "request",
    "server",
    "returns",
    "the",
    "data",
    "model",
    "with",
    "a",
    "default",
    "async",
    "path",
    "item",
    "response",
    "never",
]
# headings, and fence lines, which decide what is a heading further down
_STRUCTURAL = re.compile(r"\s*(?:#{1,6}\s|=+\s*$|-+\s*$|<!--|```|~~~)")


def edited(rng: random.Random, text: str) -> str:
    """The text with one line changed, replaced, inserted or deleted."""
    lines = text.split("\n")
    while True:
        at = rng.randrange(len(lines))
        line, kind = lines[at], rng.choice(["word", "append", "replace", "insert", "delete"])
        under = at + 1 < len(lines) and re.match(r"\s{0,3}(?:=+|-+)\s*$", lines[at + 1])
        if _STRUCTURAL.match(line) or under or (kind not in ("insert", "delete") and not line.strip()):
            continue
        new = " ".join(rng.choices(_WORDS, k=rng.randint(3, 12)))
        words = line.split(" ")
        words[rng.choice([at for at, word in enumerate(words) if word] or [0])] = rng.choice(_WORDS)
        changed = {"word": [" ".join(words)], "append": [f"{line} {new}"], "replace": [new], "insert": [new, line]}
        result = "\n".join([*lines[:at], *changed.get(kind, []), *lines[at + 1 :]])
        if result != text:
            return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokenizer", "size", "overlap", "edits", "seed"),
    [("cl100k_base", 512, 64, 1000, 20), ("wordllama", 256, 32, 2000, 4711)],
)
def test_one_line_edits_send_one_new_text_and_rarely_more_than_two(  # type: ignore[no-untyped-def]
    make, fastapi: list[Document], tokenizer: str, size: int, overlap: int, edits: int, seed: int
) -> None:
    chunker = make("structure", tokenizer, size, overlap)
    rng = random.Random(seed)
    before: dict[str, set[str]] = {}
    new = []
    for document in rng.choices(fastapi, [document.text.count("\n") + 1 for document in fastapi], k=edits):
        if document.doc_id not in before:
            before[document.doc_id] = {chunk.sent for chunk in chunker.chunk(document)}
        after = dataclasses.replace(document, text=edited(rng, document.text))
        new.append(len({chunk.sent for chunk in chunker.chunk(after)} - before[document.doc_id]))
    assert statistics.median(new) == 1
    assert sum(count > 2 for count in new) <= edits / 100


@pytest.mark.slow
@pytest.mark.parametrize(("tokenizer", "size", "overlap"), [("cl100k_base", 512, 64), ("wordllama", 256, 32)])
def test_every_count_on_the_real_tree_is_exact_and_chunks_are_full(  # type: ignore[no-untyped-def]
    make, checked, fastapi: list[Document], tokenizer: str, size: int, overlap: int
) -> None:
    chunker = make("structure", tokenizer, size, overlap)
    filled: list[float] = []
    for document in fastapi:
        chunks = checked(chunker, document)
        for at, chunk in enumerate(chunks):
            near = chunks[max(0, at - 1) : at] + chunks[at + 1 : at + 2]
            if any(other.heading_path == chunk.heading_path for other in near):
                filled.append(chunk.tokens / size)
    assert statistics.mean(filled) > 0.6


def test_an_edit_changes_nothing_outside_its_section(make, write) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(3)
    sections = [
        f"## Part {n}\n\n" + "\n\n".join(" ".join(rng.choices(_WORDS, k=30)) for _ in range(9)) for n in range(9)
    ]
    chunker = make(size=64, overlap=8)
    old: list[Chunk] = list(chunker.chunk(write("\n\n".join(sections))))
    for _ in range(60):
        at = rng.randrange(9)
        text = "\n\n".join(edited(rng, part) if n == at else part for n, part in enumerate(sections))
        new: list[Chunk] = list(chunker.chunk(write(text)))
        for n in set(range(9)) - {at}:
            of_part = [[c.sent for c in chunks if c.heading_path == (f"Part {n}",)] for chunks in (old, new)]
            assert of_part[0] == of_part[1]
