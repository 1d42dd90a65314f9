"""No key gets out: it is read here, hidden from repr, and taken out of every text that leaves."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from rag.errors import KeyMissing
from rag.providers.address import on_this_machine, other_server
from rag.providers.models import PROVIDERS
from rag.providers.settings import ModelSettings

HIDDEN: Final = "[key]"
# a user and password of an address are sent in base64 together, so that neither is found by itself
_SHAPE = re.compile(r"\bsk-[A-Za-z0-9_*-]{6,}|(?<=\bBasic )(?=[a-z]*[^a-z\s])[A-Za-z0-9+/]{12,}={0,2}")


class Key:
    """A provider's key. Its repr and str hide it; `reveal` is called where a client is made, and nowhere else."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Key(hidden)"

    def reveal(self) -> str:
        return self._value

    def hide(self, text: str) -> str:
        """The text without this key, plain, quoted or in base64, and without anything shaped like a key."""
        return _SHAPE.sub(HIDDEN, self.hide_itself(text))

    def hide_itself(self, text: str) -> str:
        """The text without this key: what a model says may hold the look of one, which is the documents' own."""
        if len(self._value) >= 6:
            plain = self._value.encode()
            forms = {self._value, quote(self._value, safe=""), base64.b64encode(plain).decode().rstrip("=")}
            for form in sorted(forms, key=len, reverse=True):
                text = text.replace(form, HIDDEN)
        return text

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
        return Key(value)
    if not variable or (not value and on_this_machine(settings.base_url)):
        return Key("none")
    problem = "is not set" if not value else "holds characters that no key has"
    what = f"{settings.model} needs a key, and the environment variable {variable} {problem}"
    remedy = f"export {variable}=..., or name another variable with api_key_env"
    if settings.base_url:
        remedy += '; for a server without keys write api_key_env = ""'
    raise KeyMissing.at(variable, what, remedy)
