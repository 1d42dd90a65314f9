"""No key gets out: it is read here, hidden from repr, and taken out of every text that leaves."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

from rag.errors import KeyMissing
from rag.providers.address import on_this_machine, other_server, secrets_in
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

    __slots__ = ("_base64", "_forms", "_plain", "_value")

    def __init__(self, value: str, *others: str) -> None:
        """`others` go to the server beside it, such as the password of its address."""
        self._value = value
        secrets = [secret for secret in (value, *others) if len(secret) >= _SHORTEST]
        self._plain = re.compile("|".join(map(_escaped, sorted(secrets, key=len, reverse=True))) or "(?!)")
        self._base64 = [core for secret in secrets for core in _base64_of(secret)]
        self._forms = {*secrets, *(quote(secret, safe=safe) for secret in secrets for safe in ("", "/")), *self._base64}

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
        return max((_overlap(text, form) for form in self._forms), default=0)

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


def _escaped(secret: str) -> str:
    """A pattern of a secret, each of its characters as it is, as in an address, or as in JSON."""
    found = []
    for letter in secret:
        code = ord(letter)
        forms = (
            {re.escape(letter), *(f"%{byte:02X}" for byte in letter.encode())} if code < 128 else {re.escape(letter)}
        )
        if not letter.isalnum() and code < 128:
            forms |= {f"%{code:02x}", re.escape("\\" + letter), rf"\\u{code:04x}", rf"\\u{code:04X}"}
        found.append(f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})")
    return "".join(found)


def _overlap(text: str, form: str) -> int:
    """The longest true beginning of a form that the text ends with."""
    return next((count for count in range(min(len(form) - 1, len(text)), 0, -1) if text.endswith(form[:count])), 0)


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
    """The key of a hosted model. A server on this machine needs none. Raises KeyMissing."""
    variable = key_variable(settings)
    value = environment.get(variable, "").strip() if variable else ""
    if value and value.isascii() and value.isprintable():
        return Key(value, *secrets_in(settings.base_url))
    if not variable or (not value and on_this_machine(settings.base_url)):
        return Key("none", *secrets_in(settings.base_url))
    problem = "is not set" if not value else "holds characters that no key has"
    what = f"{settings.model} needs a key, and the environment variable {variable} {problem}"
    remedy = f"export {variable}=..., or name another variable with api_key_env"
    if settings.base_url:
        remedy += '; for a server without keys write api_key_env = ""'
    raise KeyMissing.at(variable, what, remedy)
