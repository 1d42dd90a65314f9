"""Where `structure` cuts, and where it does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.chunking.registry import CHUNKERS
from rag.errors import SettingsError
from rag.types import Chunk, Document

Make = Callable[..., object]
_LINES = [
    *(
        "# One",
        "## Two { #two }",
        "### `three`",
        "Title\n=====",
        "Title\n---",
        "---",
        "```python",
        "```",
        "~~~",
        "    ```",
    ),
    *(
        "- item",
        "* item",
        "1. one",
        "  more",
        "| a | b |",
        "|---|---|",
        "> quote",
        "<!-- # no",
        "-->",
        "<pre>",
        "</pre>",
    ),
    *(
        "",
        "",
        "",
        "A sentence. Another one! A third, e.g. this.",
        "字が続く。次の文。",
        "word " * 30,
        "x" * 200,
        "\r",
        "\t# no",
    ),
]
_TEXTS = st.lists(st.one_of(st.sampled_from(_LINES), st.text(max_size=20)), max_size=30).map("\n".join)


@given(
    _TEXTS,
    st.sampled_from(sorted(CHUNKERS)),
    st.sampled_from(["cl100k_base", "wordllama", "minilm", "bytes"]),
    st.sampled_from([(16, 0), (16, 8), (40, 10), (100, 50)]),
    st.booleans(),
)
def test_every_chunking_keeps_its_promises(make, write, checked, text, strategy, tokenizer, limits, path) -> None:  # type: ignore[no-untyped-def]
    chunker = make(strategy, tokenizer, *limits, path)
    checked(chunker, write(text, context=("Record",)))
    checked(chunker, write("---\na: 1\n---\n" + text, start=13))


def _cut(make: Callable[..., object], document: Document, **settings: object) -> list[Chunk]:
    return list(make(**settings).chunk(document))  # type: ignore[attr-defined]


def test_no_chunk_leaves_its_section_and_a_bare_heading_joins_the_next(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    text = "Before.\n\n# A\n\n## B ##\n\nText of b.\n\n## C { #c }\n\nText of c.\n\nOld\n===\nText.\n\n## Last\n"
    chunks = checked(make(), write(text, context=("Ctx",)))
    assert [(chunk.heading_path, chunk.prefix) for chunk in chunks] == [
        (("Ctx",), "Ctx\n\n"),
        (("Ctx", "A", "B"), "Ctx\n\n"),
        (("Ctx", "A", "C"), "Ctx > A\n\n"),
        (("Ctx", "Old"), "Ctx\n\n"),
        (("Ctx", "Old", "Last"), "Ctx > Old\n\n"),
    ]
    assert chunks[1].text == "# A\n\n## B ##\n\nText of b."
    assert [chunk.prefix for chunk in checked(make(path=False), write(text))] == [""] * 5


@pytest.mark.parametrize(
    "hidden",
    [
        "```\n# no\n```",
        "~~~~\n# no\n~~~\n# no\n~~~~",
        "<!--\n# no\n-->",
        "<pre>\n# no\n</pre>",
        "    # no",
        "#no",
        "####### no",
        "- item\n---",
        "> quote\n---",
        "| a |\n---",
        "\n---",
        "- item\n\n      ```\n# no\n      ```",
    ],
)
def test_what_is_no_heading_per_commonmark_is_none(make, write, checked, hidden: str) -> None:  # type: ignore[no-untyped-def]
    chunks = checked(make(size=200), write(f"# Top\n\nText.\n\n{hidden}\n\nMore.\n"))
    assert {chunk.heading_path for chunk in chunks} == {("Top",)}


def test_plain_text_has_no_headings(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    (chunk,) = checked(make(), write("# not a heading\n\ntext\n", "text/plain"))
    assert chunk.heading_path == ()


def test_a_fence_is_split_only_when_it_alone_is_too_long(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    fence = "```python\n" + "".join(f"value_{n} = {n}\n\n" for n in range(6)) + "```"
    text = f"# A\n\n{'Some words before it. ' * 8}\n\n{fence}\n\n{'Some words after it. ' * 8}\n"
    chunks = checked(make(size=64, overlap=16), write(text))
    assert sum(fence in chunk.text for chunk in chunks) == 1
    assert all(fence in chunk.text for chunk in chunks if "value_" in chunk.text)
    long = "```python\n" + "".join(f"value_{n} = {n}\n" for n in range(60)) + "```"
    chunks = checked(make(size=64), write(f"# A\n\n{long}\n"))
    assert len(chunks) > 2
    assert all(chunk.text.startswith(("#", "```", "value_")) for chunk in chunks)


def test_a_long_table_is_split_between_rows(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    rows = "".join(f"| row {n} | It is. So it goes. |\n" for n in range(40))
    chunks = checked(make(size=64), write(f"| a | b |\n|---|---|\n{rows}"))
    assert len(chunks) > 3
    assert all(chunk.text.startswith("|") and chunk.text.endswith("|") for chunk in chunks)


def test_sentences_end_after_stops_but_not_after_abbreviations(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    text = "He met Dr. Smith at 3.14 p.m. Some say J. R. Tolkien, e.g. Bob, vs. Alice, wrote it. " * 12
    chunks = checked(make(size=64), write(text))
    assert {chunk.text.split()[0] for chunk in chunks} <= {"He", "Some"}
    chunks = checked(make(size=64), write("これは文です。次の文も短いです！" * 20))
    assert all(chunk.text[-1] in "。！" for chunk in chunks)


def test_overlap_begins_at_a_sentence_and_stays_within_its_limit(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    text = "# A\n\n" + " ".join(f"This is the sentence number {n}." for n in range(60))
    chunks = checked(make(size=80, overlap=24), write(text))
    pairs = list(itertools.pairwise(chunks))
    assert sum(later.start < earlier.end for earlier, later in pairs) > len(pairs) // 2
    assert sum(chunk.text.startswith("This is") for chunk in chunks) > len(chunks) // 2
    assert all(text[chunk.start - 1].isspace() for chunk in chunks[1:])
    tokenizer = make().tokenizer
    assert all(tokenizer.count(text[later.start : earlier.end]) <= 24 for earlier, later in pairs)


def test_overlap_tears_no_fence_and_no_table(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    fence = "```python\nfirst. Second = 1\nthird. Fourth = 2\n```"
    table = "| a. B | c |\n|---|---|\n| d. E | f |"
    for block in (fence, table):
        text = "# A\n\n" + "\n\n".join(f"Words of part {n} stand here. They are few.\n\n{block}" for n in range(20))
        for chunk in checked(make(size=80, overlap=30), write(text)):
            assert chunk.text.count("```") % 2 == 0
            assert not chunk.text.startswith(("|---", "| d", "E", "Second", "third", "Fourth"))


def test_braces_that_are_no_attributes_stay_in_a_title(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    chunks = checked(make(), write("# a }\n\nx\n\n# b {c}\n\nx\n\n# d {}\n\nx\n\n# e #f}\n\nx"))
    assert [chunk.heading_path for chunk in chunks] == [("a }",), ("b {c}",), ("d {}",), ("e #f}",)]


def test_a_path_too_long_loses_its_front(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    text = f"# {'long title ' * 10}\n\n## Short\n\n{'word ' * 100}\n"
    chunks = checked(make(size=48), write(text))
    assert {chunk.prefix for chunk in chunks[1:]} <= {"", "Short\n\n"}
    assert chunks[-1].prefix == "Short\n\n"
    assert all(len(chunk.heading_path) == 2 for chunk in chunks)


def test_line_ends_and_marks_are_not_torn_apart(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    for text in ("a\u0301" * 300, "👩\u200d💻" * 100, "x\r\n" * 200):
        for chunk in checked(make(size=16), write(text)):
            assert chunk.text[0] not in "\u0301\u200d\n"


def test_limits_that_make_no_sense_are_all_told_at_once(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsError) as error:
        make(size=8, overlap=9)
    assert [problem.where for problem in error.value.problems] == ["[chunking] max_tokens", "[chunking] overlap_tokens"]
    assert make(size=16).identity["max_tokens"] == 16


def test_white_space_has_no_chunks(make, write) -> None:  # type: ignore[no-untyped-def]
    for text in ("", " \n\t", "\n" * 100_000):
        assert _cut(make, write(text)) == []
