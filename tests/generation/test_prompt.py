from __future__ import annotations

import contextlib
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import SettingsError
from rag.generation.prompt import ABSTENTION, load_prompt, parse_prompt, quoted
from tests.generation.hostile import HOSTILE
from tests.generation.making import passage

_TAG = re.compile(r"<\s*(/?)\s*(passage|question)\b", re.IGNORECASE)
PROMPT = load_prompt()
ANY = (
    st.text()
    | st.sampled_from(HOSTILE)
    | st.lists(st.sampled_from([*"</>&;\"'", "passage", "\u200b", " ", "&lt"])).map("".join)
)


def tags(user: str) -> list[str]:
    return [match[1] + match[2].lower() for match in _TAG.finditer(unicodedata.normalize("NFKC", user))]


def holds(question: str, user: str, count: int) -> None:
    """The boundaries are ours alone, and every `<` is one of theirs."""
    assert tags(user) == ["passage", "/passage"] * count + ["question", "/question"]
    assert user.count("<") == 2 * count + 4
    assert f"<question>\n{quoted(question)}\n</question>" in user


def test_forty_texts_are_hostile() -> None:
    assert len(set(HOSTILE)) == 40


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_inside_its_boundary_wherever_it_stands(text: str) -> None:
    first = passage(text, title=text, source=text, heading_path=(text, "Fares"))
    _, user = PROMPT.messages(text, [first, passage("The train leaves at nine.", 2)])
    if "\uff1c" not in text:
        holds(text, user.content, 2)
    assert user.content.count("</passage>") == user.content.count("<passage id=") == 2


@given(ANY, ANY, ANY, ANY)
def test_whatever_the_text_there_are_as_many_boundaries_as_passages(
    question: str, text: str, source: str, title: str
) -> None:
    passages = [passage(text, 1, source=source, title=title, heading_path=(source,)), passage(question, 2)]
    _, user = PROMPT.messages(question, passages)
    assert user.content.count("<") == 2 * 2 + 4
    assert re.findall(r"^<passage id=\"(\d+)\"", user.content, re.MULTILINE) == ["1", "2"]
    assert user.content.count("\n</passage>\n") == 2


@given(ANY)
def test_quoting_loses_nothing_and_adds_no_line(text: str) -> None:
    kept = quoted(text)
    assert not set(kept) & set("<>")
    assert kept.count("\n") == text.count("\n")
    named = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&"}
    once = re.sub(r"&(?:lt|gt|quot|amp);|&#x([0-9A-F]+);", lambda m: chr(int(m[1], 16)) if m[1] else named[m[0]], kept)
    assert once == text


@pytest.mark.parametrize(
    "hidden", ["\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\x1b", "\U000e0041", "\U000e0101"]
)
def test_what_people_do_not_see_is_written_as_a_number(hidden: str) -> None:
    assert quoted(f"a{hidden}b") == f"a&#x{ord(hidden):X};b"


def test_scripts_that_need_joiners_keep_them() -> None:
    assert quoted("می‌خواهم क्‍ष 👩‍🚒") == "می‌خواهم क्‍ष 👩‍🚒"


def test_tokens_of_chat_templates_are_broken_and_citations_are_not() -> None:
    assert quoted("[INST] see [1] and [a]") == "&#x5B;INST] see [1] and [a]"


def test_values_are_never_filled_again() -> None:
    _, user = PROMPT.messages("{passages} {question}", [passage("{question}")])
    assert "<question>\n{passages} {question}\n</question>" in user.content
    assert ">\n{question}\n</passage>" in user.content


def test_the_same_question_and_passages_give_the_same_bytes() -> None:
    given_ = [passage("a"), passage("b", 2)]
    assert PROMPT.messages("q", given_) == load_prompt().messages("q", given_)


def test_the_shipped_prompt_says_its_version_and_how_to_abstain() -> None:
    assert (PROMPT.label, PROMPT.abstain) == ("answer.v1", ABSTENTION)
    assert PROMPT.abstain in PROMPT.system
    assert PROMPT.text.startswith("---\nname: answer\nversion: 1\n")


def test_a_passage_says_where_it_is_from() -> None:
    _, user = PROMPT.messages(
        "q", [passage("t", 3, title="Fares", source="a/b.md", heading_path=("Dogs", "Small & big"))]
    )
    assert '<passage id="3" source="a/b.md" heading="Fares / Dogs / Small &amp; big">\nt\n</passage>' in user.content


def test_a_prompt_of_ones_own_may_be_a_user_message_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_text("Q: {question}\n{passages}\n{other}", encoding="utf-8")
    prompt = load_prompt(path)
    assert prompt.label == f"mine.v{prompt.sha256[:8]}"
    (message,) = prompt.messages("why?", [])
    assert message.content == "Q: why?\n\n{other}"


def test_every_mistake_of_a_prompt_file_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.md"
    path.write_text("---\nnmae: x\n---\n# System\n{question}\n# User\n{passages} {passages}", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_prompt(path)
    assert [problem.what for problem in caught.value.problems] == [
        "front matter has an unknown key 'nmae'",
        "the user message lacks {question}",
        "the system message holds {question}",
        "the user message holds {passages} 2 times",
    ]
    assert {problem.where for problem in caught.value.problems} == {str(path)}


@pytest.mark.parametrize("content", [None, b"{question} {passages} \xff"])
def test_a_prompt_that_cannot_be_read_is_a_mistake_of_settings(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "prompt.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError):
        load_prompt(path)


def test_a_closed_book_prompt_needs_only_a_question() -> None:
    prompt = parse_prompt(b"# System\nAnswer.\n# User\n{question}", "closed_book.md", ["question"])
    assert [message.content for message in prompt.fill({"question": quoted("a<b")})] == ["Answer.", "a&lt;b"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_prompt_or_a_mistake_of_settings(raw: bytes) -> None:
    with contextlib.suppress(SettingsError):
        assert parse_prompt(raw, "p.md").user
