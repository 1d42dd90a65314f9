"""Content words as stems: what overlap is counted in."""

from __future__ import annotations

import functools
import re
import threading

# Numbers keep their separators (1,200 and 12:40), so that a wrong number shares nothing with the right one. Scripts
# without spaces are read by the character.
_WORD = re.compile(
    r"\d+(?:[.,:/]\d+)*|[^\W\d_\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af][^\W_\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]*"
    r"|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)
_STOP_WORDS = (
    "a about according after all also am an and another any are as at be became because become been before being both "
    "but by can could did do does doing done during each either else ever every for from get give given go had has have "
    "having he her here hers him his how however i if in into is it its itself just kind let like many may me might more "
    "most much must my name named no nor not of off often on one only or other our out over own part per said same say "
    "shall she should since so some sort such tell than that the their them then there these they this those through "
    "thus to too type under until up upon us use used using usually very via was we were what whatever when where "
    "whether which while who whom whose why will with within without would yet you your s t d ll re ve "
    "please called known term happen happened happens"
)
STOP = frozenset(_STOP_WORDS.split())


@functools.cache
def _stemmer() -> tuple[object, threading.Lock]:
    import Stemmer

    return Stemmer.Stemmer("english"), threading.Lock()


@functools.lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The stem of a lower-case word. Safe for threads, though PyStemmer's object is not.

    >>> stem("descending") == stem("descends")
    True
    """
    stemmer, lock = _stemmer()
    with lock:
        return stemmer.stemWord(word)  # type: ignore[attr-defined, no-any-return]


def content(text: str) -> list[str]:
    """The words of a text that say something, in lower case and in order."""
    return [word for word in _WORD.findall(text.lower()) if word not in STOP]


def words(text: str) -> list[str]:
    """The stems of a text's content words in order.

    >>> words("The trains were stopped at 1,200 m")
    ['train', 'stop', '1,200', 'm']
    """
    return [stem(word) for word in content(text)]


def stems(text: str) -> frozenset[str]:
    """The distinct stems of a text."""
    return frozenset(words(text))
