"""BM25 over the chunk table: Lucene's variant, English stop words and stemmer, saved as plain arrays and JSON."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.digest import canonical
from rag.errors import Damaged, Problem, RaglineError, refuse_newer
from rag.index.tables import ChunkTable
from rag.index.verify import put_back, scratch
from rag.ports import Floats
from rag.storage import create, faultpoint, write
from rag.types import Json

LEXICAL_FORMAT = 1
K1, B = 1.2, 0.75
ARRAYS = ("data", "indices", "indptr")
VOCABULARY = "vocabulary.json"
META = "lexical.json"
FILES = (*(f"{name}.npy" for name in ARRAYS), VOCABULARY, META)
_WORD = re.compile(r"(?u)\b\w\w+\b")


def parameters() -> dict[str, Json]:
    """All that decides a lexical index beside the chunks; part of the content digest."""
    return {
        "format": LEXICAL_FORMAT,
        "variant": "lucene",
        "k1": K1,
        "b": B,
        "stop_words": "bm25s/english",
        "stemmer": "snowball/english",
        "words": _WORD.pattern,
        "text": "heading_path + text",
    }


def analyser(stop_words: Iterable[str]) -> Callable[[str], list[str]]:
    """Text -> stems in order, stop words and single letters left out. Not for two threads at once."""
    stem = _stemmer(stop_words)
    return lambda text: [found for word in _words(text) if (found := stem(word))]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def english_stop_words() -> list[str]:
    """The list that `parameters` names, in order. An index holds the words it was built with: this import is slow."""
    from bm25s.stopwords import STOPWORDS_EN

    return sorted(STOPWORDS_EN)


def _stemmer(stop_words: Iterable[str]) -> Callable[[str], str]:
    """Word -> its stem, nothing for a stop word."""
    import Stemmer

    stem, stop = Stemmer.Stemmer("english").stemWord, frozenset(stop_words)
    return lambda word: "" if word in stop else str(stem(word))


class _Numbers(dict[str, int]):
    """Word -> the number of its stem, -1 for a stop word; a word is stemmed once."""

    def __init__(self, stop_words: Iterable[str]) -> None:
        super().__init__()
        self._stem = _stemmer(stop_words)
        self.vocabulary: dict[str, int] = {}

    def __missing__(self, word: str) -> int:
        stem = self._stem(word)
        self[word] = self.vocabulary.setdefault(stem, len(self.vocabulary)) if stem else -1
        return self[word]


def build_in_child(chunks: Path, folder: Path) -> dict[str, Json]:
    """Build the lexical index of chunks.parquet into `folder`, in a child whose memory dies with it.

    Gives what it took: seconds, peak_bytes. Raises RaglineError with the child's last words when it fails.
    """
    command = [sys.executable, "-m", "rag.retrieval.build_lexical", str(chunks.resolve()), str(folder.resolve())]
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        what = f"the lexical index could not be built: {last}"
        raise RaglineError(what, [Problem(str(folder), what, "run the same command again")])
    faultpoint("lexical.built")
    return dict(json.loads(done.stdout))


def build(texts: Iterable[str], folder: Path) -> None:
    """Write the lexical index of texts in row order: for each stem its rows and their finished scores.

    Lucene's BM25 as Kamphuis and others (ECIR 2020) give it: ln(1 + (N - df + 0.5) / (df + 0.5)) times
    tf / (tf + k1 (1 - b + b length / mean length)). A word of the texts takes about 30 bytes at the
    peak. Raises StorageFailed.
    """
    stop_words = english_stop_words()
    numbers = _Numbers(stop_words)
    stream, words = array("i"), array("i")
    for text in texts:
        found = _words(text)
        stream.extend(map(numbers.__getitem__, found))
        words.append(len(found))
    rows = len(words)
    stems = np.frombuffer(stream, dtype=np.int32) if stream else np.empty(0, dtype=np.int32)
    row = np.repeat(np.arange(rows, dtype=np.int32), np.asarray(words, dtype=np.int64))
    row = row[stems >= 0]
    pairs = stems[stems >= 0].astype(np.int64)
    del stems, stream
    length = np.bincount(row, minlength=rows)
    pairs *= max(rows, 1)
    pairs += row
    del row
    # sorted by stem, then row: what is equal stands together, and its count is tf
    pairs.sort()
    first = np.ones(len(pairs), dtype=bool)
    np.not_equal(pairs[1:], pairs[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    tf = np.diff(starts, append=len(pairs)).astype(np.int32)
    pairs = pairs[starts]
    indices = (pairs % max(rows, 1)).astype(np.int32)
    df = np.bincount(pairs // max(rows, 1), minlength=len(numbers.vocabulary))
    del pairs, starts, first
    weight = (K1 * (1 - B + B * length / (length.mean() if len(indices) else 1.0)))[indices]
    weight += tf
    np.divide(tf, weight, out=weight)
    del tf
    weight *= np.repeat(np.log1p((rows - df + 0.5) / (df + 0.5)), df)
    data = weight.astype(np.float32)
    indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(df, dtype=np.int64)])
    for name, values in zip(ARRAYS, (data, indices, indptr), strict=True):
        with create(folder / f"{name}.npy") as file:
            np.lib.format.write_array(file, values, allow_pickle=False)
    write(folder / VOCABULARY, canonical(list(numbers.vocabulary)))
    write(folder / META, canonical({**parameters(), "rows": rows, "stop": list(stop_words)}))


class LexicalIndex:
    """A mapped lexical index. Scores of rows without a word of the question are 0 and never returned by `search`."""

    def __init__(self, path: Callable[[str], Path]) -> None:
        """`path` gives the place of a file of the index by its name, as in `data.npy`. Raises Damaged."""
        try:
            self.meta = json.loads(path(META).read_bytes())
            stems = json.loads(path(VOCABULARY).read_bytes())
            self._data, self._indices, self._indptr = (
                np.load(path(f"{name}.npy"), mmap_mode="r", allow_pickle=False) for name in ARRAYS
            )
        except (OSError, ValueError) as error:
            what = f"the lexical index cannot be opened: {error}"
            raise Damaged(what, [Problem("lexical/", what, "run `ragline repair`")]) from error
        refuse_newer(f"lexical/{META}", self.meta["format"], LEXICAL_FORMAT)
        self.rows = int(self.meta["rows"])
        self._vocabulary = {stem: number for number, stem in enumerate(stems)}
        self._analyse = analyser(self.meta["stop"])
        self._lock = threading.Lock()

    def scores(self, question: str, rows: NDArray[np.int64] | None = None) -> Floats:
        """BM25 of every row, or of these: float32 [n]."""
        with self._lock:
            stems = self._analyse(question)
        every = np.zeros(self.rows, dtype=np.float32)
        for stem in stems:
            if (number := self._vocabulary.get(stem)) is not None:
                part = slice(int(self._indptr[number]), int(self._indptr[number + 1]))
                # a row stands once for each stem, so that nothing is added to itself
                every[self._indices[part]] += self._data[part]
        return every if rows is None else every[rows]

    def rarity(self, stem: str) -> float:
        """How much a stem tells: log(1 + N / df) / log(1 + N), 1 where one row has it or none.

        0.5 for a single letter or sign: these are not indexed.
        """
        if len(stem) < 2:
            return 0.5
        number = self._vocabulary.get(stem)
        holding = 1 if number is None else int(self._indptr[number + 1] - self._indptr[number])
        return math.log1p(self.rows / holding) / math.log1p(max(self.rows, 1))

    def search(self, question: str, k: int, rows: NDArray[np.int64] | None = None) -> tuple[Floats, NDArray[np.int64]]:
        """The best k rows that share a word with the question, ties by row: scores [m], rows [m], m <= k."""
        scores = self.scores(question, rows)
        best = top(scores, k)
        best = best[scores[best] > 0]
        return scores[best], best.astype(np.int64) if rows is None else np.asarray(rows)[best]


def top(scores: Floats, k: int) -> NDArray[np.intp]:
    """Places of the k highest scores, best first, ties by place, also at the border.

    >>> top(np.array([1, 3, 2, 3, 2], dtype=np.float32), 3).tolist()
    [1, 3, 2]
    """
    if k <= 0 or not len(scores):
        return np.empty(0, dtype=np.intp)
    if k < len(scores):
        border = np.partition(scores, len(scores) - k)[len(scores) - k]
        above = np.flatnonzero(scores > border)
        places = np.concatenate([above, np.flatnonzero(scores == border)[: k - len(above)]])
    else:
        places = np.arange(len(scores))
    return places[np.lexsort((places, -scores[places]))]


def read_texts(chunks: Path) -> Iterator[str]:
    """What BM25 reads of each row of chunks.parquet, in order: its whole heading path, then its text."""
    for part in ChunkTable(chunks).stream(("heading_path", "text")):
        for path, text in zip(part["heading_path"], part["text"], strict=True):
            yield f"{path}\n{text}" if path else text


def lexical_index(paths: Callable[[str], Path]) -> LexicalIndex:
    """The lexical index of an opened version: `lexical_index(version.path)`."""
    return LexicalIndex(lambda name: paths(f"lexical/{name}"))


def remake(folder: Path) -> None:
    """Build a version's lexical files again from its chunks.parquet, and put back those that are not right.

    Raises Damaged where other bytes come out than the manifest promises, or chunks.parquet cannot be read.
    """
    with scratch(folder) as place:
        build_in_child(folder / "chunks.parquet", place)
        for name in FILES:
            put_back(folder, f"lexical/{name}", place / name)
