"""Counts of spans are exact at the price of one encoding."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.chunking.tokens import NO_PREFIX, SEGMENT, Tokenizer, load_tokenizer
from rag.errors import SettingsError

NAMES = ["cl100k_base", "o200k_base", "wordllama", "minilm", "bytes"]
_PIECES = [
    *(
        "the",
        "Reader",
        "it's",
        "DON'T",
        "café",
        "cafe\u0301",
        "naïve",
        "über",
        "данные",
        "字",
        "漢字、仮名",
        "。",
        "！",
        "한국어",
    ),
    *(
        "हिन्दी",
        "ا",
        "👩\u200d💻",
        "🏽",
        "\u200b",
        "\u0301",
        "1234567",
        "3.14",
        "١٢٣",
        "Ⅷ",
        "½",
        "e.g.",
        "x_y",
        "f(x)",
        "->",
        "/",
        "//",
    ),
    *("\n", "\n\n", "\r\n", "\r", " ", "  ", "    ", "\t", "\xa0", "\u2028", "\u3000", "\x1c", "\x0b", "\0", "\u2581"),
    *(
        "!",
        "?",
        ".",
        ",",
        "'",
        '"',
        "`",
        "```",
        "#",
        "|",
        "<s>",
        "</s>",
        "[CLS]",
        "<unk>",
        "<|endoftext|>",
        "=====",
        "'s",
        "ſ",
    ),
]
TEXTS = st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=3)), max_size=40).map("".join)


@pytest.fixture(params=NAMES)
def tokenizer(request: pytest.FixtureRequest, load: object) -> Tokenizer:
    assert callable(load)
    loaded = load(request.param)
    assert isinstance(loaded, Tokenizer)
    return loaded


def _spans(text: str, data: st.DataObject) -> list[tuple[int, int]]:
    places = [match.start() for match in re.finditer(r"\S", text)]
    if not places:
        return []
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(places), st.sampled_from(places)), min_size=1, max_size=6))
    return [(min(pair), max(pair) + 1) for pair in pairs]


@given(TEXTS, st.data(), st.sampled_from(["A > B", "Why?!", "字", "x/", "a <unk> b", "</s>", "\u2581"]))
def test_a_span_counts_as_it_would_alone(tokenizer: Tokenizer, text: str, data: st.DataObject, path: str) -> None:
    encoded = tokenizer.encode(text)
    for prefix in (tokenizer.prefix(path + "\n\n"), NO_PREFIX):
        for start, end in _spans(text, data):
            assert encoded.count(prefix, start, end) == tokenizer.count(prefix.text + text[start:end])


@given(TEXTS)
def test_places_of_tokens_rise_and_lie_in_the_text(tokenizer: Tokenizer, text: str) -> None:
    starts = tokenizer.encode(text)._starts.tolist()
    assert starts == sorted(starts)
    assert all(0 <= start < len(text) for start in starts)


def test_letters_and_digits_of_this_python_are_those_of_the_patterns() -> None:
    for code in range(0x110000):
        if chr(code).isalnum():
            assert unicodedata.category(chr(code))[0] in "LN", hex(code)


def test_counts_are_those_of_the_library_itself(load: object) -> None:
    assert callable(load)
    assert load("cl100k_base").count("hello <|endoftext|> wörld") == 10
    assert load("o200k_base").count("Hello, world!") == 4
    assert load("wordllama").count("Hello, world!") == 4
    assert load("minilm").count("Hello, world!") == 6
    assert load("bytes").count("é") == 2
    assert not load("bytes").exact


def test_an_identity_names_the_vocabulary_by_its_digest(load: object) -> None:
    assert callable(load)
    assert load("cl100k_base").identity["sha256"].startswith("223921b76ee9")
    assert load("minilm").identity["sha256"].startswith("be50c362")


@pytest.mark.slow
@pytest.mark.parametrize("character", ["^", "a", "字", " ", "\n", "\u200b"])
def test_a_run_without_an_end_is_counted_in_segments(character: str, load: object) -> None:
    assert callable(load)
    for name in NAMES:
        tokenizer = load(name)
        text = "x" + character * (3 * SEGMENT) + "x"
        encoded = tokenizer.encode(text)
        assert tokenizer.count(text) > 0
        assert encoded.count(NO_PREFIX, 0, len(text)) == tokenizer.count(text)


def test_a_file_without_a_proven_rule_is_counted_span_by_span(tmp_path: Path) -> None:
    import tokenizers

    model = tokenizers.models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.enable_truncation(3)
    made.enable_padding(length=8)
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    tokenizer = load_tokenizer(str(path))
    assert tokenizer.functions.rule is None
    assert tokenizer.count("a b a b a") == 5
    assert tokenizer.encode("a b c a").count(tokenizer.prefix("b\n\n"), 2, 7) == 4


def test_auto_knows_the_models_and_takes_bytes_for_others() -> None:
    named = {
        "openai/text-embedding-3-small": "cl100k_base",
        "local/wordllama": "wordllama",
        "local/minilm": "minilm",
        "ollama/nomic-embed-text": "bytes",
    }
    assert {model: load_tokenizer("auto", model).identity["name"] for model in named} == named


@pytest.mark.parametrize("content", ["", "{}", "[1]", json.dumps({"model": {"type": "BPE"}})])
def test_what_is_no_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    for name in (str(path), str(tmp_path / "none.json"), "gpt9"):
        with pytest.raises(SettingsError):
            load_tokenizer(name)
