"""Exact token counts and offsets at the price of one encoding.

A document is encoded once. A span of it, encoded alone, differs from the window of that encoding at its edges only:
between two *guaranteed boundaries*, places that no token can straddle whatever stands around them, the tokens are the
same. So only the few characters from an edge to the next boundary are encoded again, and those are mostly words seen
before. The rule is a regular expression a kind of tokenizer; a tokenizer without a proven rule encodes each span alone.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag.errors import SettingsError
from rag.types import Json

Starts = NDArray[np.int32]

SEGMENT = 100_000
"""Characters given to a tokenizer at once. Longer texts go in segments cut at guaranteed boundaries."""
_NEAR = 64
_FAR = 1024
_REMEMBERED = 1 << 17


@dataclass(frozen=True, slots=True)
class Functions:
    """What a vocabulary can do.

    Parameters
    ----------
    whole
        Tokens of a text encoded alone, with all that the model adds.
    inner
        Tokens of a piece from the middle of a text, with nothing added.
    starts
        The code point at which each token of a piece begins, with nothing added.
    rule
        The proven rule, or None: then each span is encoded alone.
    specials
        How many tokens the model adds around a text.
    """

    whole: Callable[[str], int]
    inner: Callable[[str], int]
    starts: Callable[[str], Starts]
    rule: Rule | None = None
    specials: int = 0


class Prefix(NamedTuple):
    """What stands before a text: nothing, or lines that end with an empty one."""

    text: str
    tokens: int
    """Without those that the model adds around a text."""
    apart: bool
    """Whether they are the same whatever follows."""


NO_PREFIX = Prefix("", 0, apart=True)


class Tokenizer:
    """A vocabulary with its rule for guaranteed boundaries, read when it is first used: a run without news never is.

    Parameters
    ----------
    identity
        Name and sha256 of the vocabulary.
    load
        Reads it.
    exact
        Whether it counts as the model does.
    """

    def __init__(self, identity: Mapping[str, Json], load: Callable[[], Functions], *, exact: bool = True) -> None:
        self.identity = identity
        self.exact = exact
        self._load = load
        self._seen: dict[str, int] = {}

    @functools.cached_property
    def functions(self) -> Functions:
        """Raises SettingsError when the vocabulary is not what it should be."""
        return self._load()

    def count(self, text: str) -> int:
        """Tokens of the text encoded alone, special tokens included.

        Above 200,000 characters it is counted in segments: where no boundary is near, as in one run of a million
        letters, the sum may be off by a token a segment.
        """
        if len(text) <= 2 * SEGMENT:
            return self.functions.whole(text)
        (start, end, _), *rest = self._segments(text, 0)
        use = self.functions
        return use.whole(text[start:end]) + sum(use.inner(text[start:end]) for start, end, _ in rest)

    def encode(self, text: str, origin: int = 0) -> Encoded:
        """One encoding of `text[origin:]`, to count its spans and to measure between places."""
        starts: list[Starts] = []
        hard: list[int] = []
        for a, b, proven in self._segments(text, origin):
            starts.append(self.functions.starts(text[a:b]) + np.int32(a))
            if not proven:
                hard.append(b)
        return Encoded(self, text, origin, np.concatenate(starts) if len(starts) > 1 else starts[0], hard)

    def piece(self, text: str) -> int:
        """Tokens of a piece between two guaranteed boundaries."""
        tokens = self._seen.get(text)
        if tokens is None:
            tokens = self.functions.inner(text)
            if len(text) <= _FAR:
                if len(self._seen) >= _REMEMBERED:
                    self._seen.clear()
                self._seen[text] = tokens
        return tokens

    def prefix(self, text: str) -> Prefix:
        """A text of lines that ends with an empty one, as it stands before others."""
        rule = self.functions.rule
        tokens = self.piece(rule.lead + text if rule else text)
        return Prefix(text, tokens, apart=rule is not None and not rule.broken(text))

    def _segments(self, text: str, origin: int) -> Iterator[tuple[int, int, bool]]:
        """Spans of at most twice SEGMENT, and whether each ends at a guaranteed boundary or at the end."""
        end = len(text)
        rule = self.functions.rule
        while end - origin > 2 * SEGMENT:
            found = rule.edge.search(text, origin + SEGMENT, origin + 2 * SEGMENT) if rule else None
            cut = found.end() if found else origin + SEGMENT
            yield origin, cut, found is not None
            origin = cut
        yield origin, end, True


class Rule:
    """Where no token can straddle.

    Parameters
    ----------
    edge
        Matches up to a guaranteed boundary: `match.end()` is one.
    clean
        Matches at a place where a text may begin as if nothing stood before it.
    closed
        Matches at a place where a text may end as if nothing stood behind it.
    lead
        What the tokenizer itself puts before a text: a space (the mark of SentencePiece), or nothing.
    sticky
        A character that may join a line end before it, so that a prefix and it are counted together.
    unsafe
        Matches what breaks the rule: a document that holds it is counted span by span.
    """

    def __init__(self, edge: str, clean: str, closed: str, lead: str = "", sticky: str = "", unsafe: str = "") -> None:
        self.edge = re.compile(edge)
        self.last = re.compile(f"(?s:.*)(?:{edge})")
        self.clean = re.compile(clean)
        self.closed = re.compile(closed)
        self.lead = lead
        self.sticky = sticky
        self._unsafe = re.compile(unsafe) if unsafe else None

    def broken(self, text: str) -> bool:
        """Whether a text holds what breaks the rule."""
        return self._unsafe is not None and self._unsafe.search(text) is not None


class Encoded:
    """One encoding of a document: counts its spans exactly, measures between places nearly."""

    def __init__(self, tokenizer: Tokenizer, text: str, origin: int, starts: Starts, hard: list[int]) -> None:
        self._text = text
        self._origin = origin
        self._starts = starts
        self._view: Sequence[int] = starts.data
        self._hard = hard
        self._tokenizer = tokenizer
        self.specials = tokenizer.functions.specials
        rule = tokenizer.functions.rule
        self._rule = None if rule is None or rule.broken(text) else rule

    def before(self, place: int) -> int:
        """Tokens that begin before a place."""
        return bisect.bisect_left(self._view, place)

    def before_each(self, places: list[int]) -> list[int]:
        """Tokens that begin before each place."""
        if len(places) < 8:  # below this numpy's overhead is the larger
            return [bisect.bisect_left(self._view, place) for place in places]
        counts: list[int] = np.searchsorted(self._starts, np.array(places, np.int32)).tolist()
        return counts

    def place(self, token: int) -> int:
        """Where a token begins; beyond the last token, the end of the text."""
        return self._view[token] if token < len(self._view) else len(self._text)

    def count(self, prefix: Prefix, start: int, end: int) -> int:
        """Tokens of `prefix + text[start:end]` encoded alone, exactly as `Tokenizer.count` gives them.

        The span begins and ends with no white space.
        """
        tokenizer, rule, text, before = self._tokenizer, self._rule, self._text, prefix.text
        if rule is None or not prefix.apart:
            return tokenizer.count(before + text[start:end])
        first = start
        if (rule.lead and not before) or not (start == self._origin or rule.clean.match(text, start)):
            found = rule.edge.search(text, start, min(end, start + _NEAR)) or rule.edge.search(
                text, start, min(end, start + _FAR)
            )
            if found is None:
                return tokenizer.count(before + text[start:end])
            first = found.end()
        last = end
        if not rule.closed.match(text, end):
            found = rule.last.match(text, max(first, end - _NEAR), end) or rule.last.match(
                text, max(first, end - _FAR), end
            )
            if found is None or found.end() <= first:
                return tokenizer.count(before + text[start:end])
            last = found.end()
        if self._hard and bisect.bisect_left(self._hard, first) < bisect.bisect_right(self._hard, last):
            return tokenizer.count(before + text[start:end])
        tokens = self.specials + bisect.bisect_left(self._view, last) - bisect.bisect_left(self._view, first)
        if not before:
            tokens += tokenizer.piece(rule.lead + text[start:first]) if first > start else 0
        elif text[start] in rule.sticky:
            tokens += tokenizer.piece(rule.lead + before + text[start:first])
        else:
            tokens += prefix.tokens + (tokenizer.piece(text[start:first]) if first > start else 0)
        return tokens + (tokenizer.piece(text[last:end]) if last < end else 0)


def load_tokenizer(name: str, model: str = "") -> Tokenizer:
    """The tokenizer of a name, or with `auto` that of a model.

    Parameters
    ----------
    name
        `auto`, `cl100k_base`, `o200k_base`, `wordllama`, `minilm`, `bytes` or the path of a `tokenizer.json`.
    model
        `provider/model`; read with `auto` only. A model that is not known is counted in UTF-8 bytes, an upper bound.

    Raises SettingsError when there is no such tokenizer or its vocabulary is not what it should be.
    """
    from rag.chunking import vocabularies

    if name == "auto":
        name = vocabularies.of_model(model)
    if name in vocabularies.LOADERS:
        return _loaded(name)
    if name.endswith(".json"):
        return vocabularies.from_file(Path(name))
    raise SettingsError.at(
        "[embedding] tokenizer",
        f"there is no tokenizer {name!r}",
        f"one of auto, {', '.join(vocabularies.LOADERS)} or the path of a tokenizer.json",
    )


@functools.cache
def _loaded(name: str) -> Tokenizer:
    from rag.chunking import vocabularies

    return vocabularies.LOADERS[name]()
