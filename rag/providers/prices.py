"""What a model costs, by its name and who serves it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rag.providers.address import other_server
from rag.providers.models import MODELS, Price

_SNAPSHOT = re.compile(r"-(\d{4}-?\d{2}-?\d{2}|latest)$")


def price(model: str, base_url: str | None = None, overrides: Mapping[str, Price] | None = None) -> Price | None:
    """The price of `provider/name`, or None where none is known.

    A dated snapshot (`-2024-08-06`, `-20250929`, `-latest`) costs what its model costs. Another server (`base_url`) has
    no known price; an override always counts.
    """
    same = (model, _SNAPSHOT.sub("", model))
    for name in same:
        if overrides and name in overrides:
            return overrides[name]
    if other_server(model.partition("/")[0], base_url):
        return None
    return next((MODELS[name].price for name in same if name in MODELS), None)
