from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.sentences import plain, shown, units
from rag.generation.words import stems, words


def cut(text: str) -> list[str]:
    return [text[unit.start : unit.end] for unit in units(text)]


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met J. R. Jones at 3 p.m. on 5 Jan. 2020.|He paid 3.5 million.|See fig. 3.|The answer is no.|It ended.",
        "It was in the U.S. Navy, i.e. far away.|It left the U.S.|The crew stayed.",
        "Is it open?|Yes!|It is ... mostly.",
        'He said "Stop."|She did.|(So they say.)|**Bold.**|End',
        "Er kam z.B. um 5 Uhr.|Sie ging.",
        "他来了。|我走了！|好",
        "क्या यह खुला है?|हाँ।|अच्छा",
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str) -> None:
    parts = text.split("|")
    joined = "".join(parts) if "。" in text else " ".join(parts)
    assert cut(joined) == parts


def test_lines_of_a_paragraph_belong_together_and_blank_lines_part() -> None:
    assert cut("One two\nthree. Four\n\nfive") == ["One two\nthree.", "Four", "five"]


def test_list_items_are_units_without_their_bullets() -> None:
    assert cut("Bring:\n- a lamp\n  and oil. Light it.\n2. rope\n* [ ] soap") == [
        "Bring:",
        "a lamp\n  and oil.",
        "Light it.",
        "rope",
        "[ ] soap",
    ]


def test_code_is_quoted_by_the_line_and_as_it_is() -> None:
    text = "Run:\n```sh\nmake  all\n\n# make. Test\n```\nDone. Yes."
    assert cut(text) == ["Run:", "make  all", "# make. Test", "Done.", "Yes."]
    assert shown(text, units(text)[2]) == "# make. Test"


def test_a_table_row_is_shown_under_its_headers() -> None:
    text = "| Section | Wait |\n|:---|---:|\n| **A** | 15 min. Or so |\n| B | |\n\n| no | header |"
    assert [shown(text, unit) for unit in units(text)] == [
        "Section: A; Wait: 15 min. Or so",
        "Section: B",
        "no; header",
    ]
    assert cut(text)[0] == "| **A** | 15 min. Or so |"


def test_headings_rules_and_comments_are_no_sentences() -> None:
    text = "# Fares. Dogs\n---\n<!-- hidden -->\nFree."
    assert [(unit.kind, shown(text, unit)) for unit in units(text)] == [
        ("heading", "Fares. Dogs"),
        ("sentence", "Free."),
    ]


def test_what_is_shown_lacks_the_marks_of_markdown() -> None:
    marked = "See *the* **[fare list](fares.md)**, `a_b_c`, snake_case_name, 2 * 3 * 4 and\n  ~~old~~ ![map](m.png)."
    assert plain(marked) == "See the fare list, a_b_c, snake_case_name, 2 * 3 * 4 and old map."


@given(st.text() | st.text(" .!?|-#*`~>\n[]()12aB。\r\u2028", max_size=80))
def test_units_are_ordered_disjoint_and_trimmed_spans(text: str) -> None:
    found = units(text)
    assert all(text[unit.start : unit.end] == text[unit.start : unit.end].strip() != "" for unit in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    for unit in found:
        shown(text, unit)


@pytest.mark.parametrize(
    "piece",
    [
        ".",
        ". ",
        " ",
        "\n",
        "|",
        "| ",
        "*a ",
        "[a](",
        "`",
        "- ",
        "<!--",
        "a. b ",
        "A.",
        "_",
        '"',
        ".x",
        "-- ",
        "~~~\n",
        "[",
    ],
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    text = piece * 40_000 + "x"
    started = time.process_time()
    for unit in units(text):
        shown(text, unit)
    # a quadratic path takes minutes here
    assert time.process_time() - started < 5


def test_words_are_stems_of_what_says_something() -> None:
    assert words("How many trains were stopped at 12:40, and at 1,200 m?") == ["train", "stop", "12:40", "1,200", "m"]
    assert stems("The Trains") == stems("a train")
    assert stems("票价") == {"票", "价"}
