"""Whatever the text, time grows with its length."""

from __future__ import annotations

import random
import time

import pytest

SIZE = 100_000
PLAIN = "The quick brown fox jumps over it. "
HOSTILE = {
    "letters": "a",
    "no space": "漢字仮名",
    "line ends": "a\n",
    "brackets": "[",
    "backquotes": "`",
    "open fences": "     ```x\n",
    "hashes": "#",
    "empty headings": "#\n",
    "sections": "# a\n\nb\n",
    "underlines": "a\n-\n",
    "comments": "<!--\n",
    "raw": "<pre>\n</pre\n",
    "nul": "\0",
    "zero width": "\u200b",
    "crlf": "a b\r\n\r\n",
    "carets": "^",
    "initials": "A. ",
    "tables": "| a | b |\n",
    "marks": "\u2581 a<s>",
    "combining": "\u0301",
    "spaces": " \t\u3000",
}

plain_seconds: dict[str, float] = {}
"""Of PLAIN, by tokenizer: measured once."""


@pytest.mark.parametrize("tokenizer", ["cl100k_base", "wordllama"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_no_more_than_its_share(make, write, checked, name: str, tokenizer: str) -> None:  # type: ignore[no-untyped-def]
    chunker = make(tokenizer=tokenizer, size=256, overlap=32)

    def seconds(piece: str) -> float:
        document = write((piece * (SIZE // len(piece))) + "x")
        began = time.process_time()
        list(chunker.chunk(document))
        return time.process_time() - began

    if tokenizer not in plain_seconds:
        plain_seconds[tokenizer] = seconds(PLAIN)
    assert seconds(HOSTILE[name]) < 0.5 + 12 * plain_seconds[tokenizer]


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["a", "[", "a\n"])
def test_ten_megabytes_are_ten_times_one(make, write, piece: str) -> None:  # type: ignore[no-untyped-def]
    chunker = make(size=512, overlap=64)

    def seconds(characters: int) -> float:
        document = write(piece * (characters // len(piece)))
        began = time.process_time()
        list(chunker.chunk(document))
        return time.process_time() - began

    assert seconds(10_000_000) < 1 + 25 * seconds(1_000_000)


def test_random_noise_keeps_the_promises(make, write, checked) -> None:  # type: ignore[no-untyped-def]
    noise = "".join(random.Random(1).choices("ab \n#`-=|.<!>*_é漢\u0301\r\t\0", k=30_000))
    for strategy in ("structure", "tokens", "sentences", "code"):
        checked(make(strategy, size=64, overlap=16), write(noise))
