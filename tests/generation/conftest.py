"""The real model server of the providers' tests, here too."""

from __future__ import annotations

from tests.providers.conftest import model_server

__all__ = ["model_server"]
