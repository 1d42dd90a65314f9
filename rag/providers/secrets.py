"""No key gets out: it is read here, hidden from repr, and taken out of every text that leaves."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rag.errors import KeyMissing
from rag.providers.address import other_server, secrets_in
from rag.providers.models import PROVIDERS
from rag.providers.settings import ModelSettings

HIDDEN: Final = "[key]"
# a user and password of an address are sent in base64 together, so that neither is found by itself
_SHAPE = re.compile(r"\bsk-[A-Za-z0-9_*-]{6,}|(?<=\bBasic )(?=[a-z]*[^a-z\s])[A-Za-z0-9+/]{12,}={0,2}")
_SHORTEST: Final = 6
"""What is shorter is no secret, and stands in every text."""
_BASE64: Final = frozenset(string.ascii_letters + string.digits + "+/-_=")


class Key:
    """A provider's key. Its repr and str hide it; `reveal` is called where a client is made, and nowhere else."""

    __slots__ = ("_base64", "_plain", "_spelt", "_value")

    def __init__(self, value: str, *others: str) -> None:
        """`others` go to the server beside it, such as the password of its address."""
        self._value = value
        secrets = [secret for secret in (value, *others) if len(secret) >= _SHORTEST]
        spelt = [_spelt(secret) for secret in sorted(secrets, key=len, reverse=True)]
        self._plain = re.compile("|".join(map(_pattern, spelt)) or "(?!)")
        self._base64 = [core for secret in secrets for core in _base64_of(secret)]
        self._spelt = [*spelt, *map(_spelt_one_way, self._base64)]

    def __repr__(self) -> str:
        return "Key(hidden)"

    def reveal(self) -> str:
        return self._value

    def hide(self, text: str) -> str:
        """The text without this key, plain, quoted or in base64, and without anything shaped like a key."""
        return _SHAPE.sub(HIDDEN, self.hide_itself(text))

    def hide_itself(self, text: str) -> str:
        """The text without this key: what a model says may hold the look of one, which is the documents' own."""
        text = self._plain.sub(HIDDEN, text)
        for core in self._base64:
            while (at := text.find(core)) >= 0:  # what stands around it in base64 belongs to it: `Bearer `, a user
                start, end = at, at + len(core)
                while start and text[start - 1] in _BASE64:
                    start -= 1
                while end < len(text) and text[end] in _BASE64:
                    end += 1
                text = text[:start] + HIDDEN + text[end:]
        return text

    def begun(self, text: str) -> int:
        """With how many of its letters a text ends that may go on as this key, plain, quoted or in base64."""
        return max((_begun(text, spelt) for spelt in self._spelt), default=0)

    def is_in(self, error: BaseException | None) -> bool:
        """Whether an exception, or one that it came from, holds the key in its text."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            text = f"{error} {error!r} {error.args!r}"
            if self.hide(text) != text:
                return True
            error = error.__cause__ or error.__context__
        return False


class Veil:
    """Text that comes in pieces, without a key that is spread over several: what may be the beginning of one waits."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._held = ""

    def next(self, piece: str) -> str:
        """What may be shown by now."""
        text = self._key.hide_itself(self._held + piece)
        shown = len(text) - self._key.begun(text)
        self._held = text[shown:]
        return text[:shown]

    def rest(self) -> str:
        """What was held, when no more comes."""
        rest, self._held = self._held, ""
        return rest


def _spelt(secret: str) -> list[tuple[str, ...]]:
    """Each letter of a secret as it may be written: as it is, as in an address, as in JSON. The longest first."""
    found: list[tuple[str, ...]] = []
    for letter in secret:
        code = ord(letter)
        forms = {letter}
        if code < 128:
            forms |= {f"%{code:02X}", f"%{code:02x}"}
        if code < 128 and not letter.isalnum():
            forms |= {f"\\{letter}", f"\\u{code:04x}", f"\\u{code:04X}"}
        found.append(tuple(sorted(forms, key=lambda form: (-len(form), form))))
    return found


def _spelt_one_way(text: str) -> list[tuple[str, ...]]:
    return [(letter,) for letter in text]


def _pattern(spelt: Sequence[tuple[str, ...]]) -> str:
    return "".join(f"(?:{'|'.join(map(re.escape, forms))})" for forms in spelt)


def _begun(text: str, spelt: Sequence[tuple[str, ...]]) -> int:
    """How long the end of the text is that is the beginning of what is spelt so."""
    for start in range(max(0, len(text) - sum(len(forms[0]) for forms in spelt)), len(text)):
        places = {start}
        for forms in spelt:
            if any(form.startswith(text[at:]) for at in places for form in forms):
                return len(text) - start
            places = {at + len(form) for at in places for form in forms if text.startswith(form, at)}
            if not places:
                break
    return 0


def _base64_of(secret: str) -> Iterator[str]:
    """What base64 of any text with the secret in it holds, in both alphabets: it may begin at any of three places.

    >>> list(_base64_of("secret"))[0] in base64.b64encode(b"my secret").decode()
    True
    """
    plain = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        whole = base64.b64encode(bytes(before) + plain).decode()
        # six bits a letter: those that a neighbour has a share in are left out
        core = whole[-(-8 * before // 6) : 8 * (before + len(plain)) // 6]
        yield core
        if (other := core.translate({ord("+"): "-", ord("/"): "_"})) != core:
            yield other


def hidden(text: str) -> str:
    """The text without anything shaped like a key."""
    return Key("").hide(text)


def key_variable(settings: ModelSettings) -> str:
    """The environment variable that holds the key; empty when none is to be sent.

    Another server than the provider's own gets a key only where `api_key_env` names one for it. Raises SettingsError.
    """
    if settings.api_key_env is not None:
        return settings.api_key_env
    return "" if other_server(settings.provider, settings.base_url) else PROVIDERS[settings.provider].key


def read_key(settings: ModelSettings, environment: Mapping[str, str]) -> Key:
    """The key of a hosted model; none is sent where no variable is named for it. Raises KeyMissing."""
    variable = key_variable(settings)
    value = environment.get(variable, "").strip() if variable else ""
    if value and value.isascii() and value.isprintable():
        return Key(value, *secrets_in(settings.base_url))
    if not variable:
        return Key("none", *secrets_in(settings.base_url))
    problem = "is not set" if not value else "holds characters that no key has"
    what = f"{settings.model} needs a key, and the environment variable {variable} {problem}"
    remedy = f"export {variable}=..., or name another variable with api_key_env"
    if settings.base_url:
        remedy += '; for a server without keys write api_key_env = ""'
    raise KeyMissing.at(variable, what, remedy)
