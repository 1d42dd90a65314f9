"""What is known of a run before its scores: the parts of run.json that somebody else has to say."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from eval.types import Arm
from rag import clock
from rag.errors import without_userinfo
from rag.providers.secrets import hidden
from rag.types import Json

if TYPE_CHECKING:
    from rag.settings import Settings

_QUERY = re.compile(r"""(?<=[\w/])\?[^\s"']*=[^\s"']*""")
"""What stands behind the question mark of an address."""


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The version, or the experiment, that was asked."""

    name: str
    version: int | str
    """The number of a version, the name of an experiment."""
    content_sha256: str
    published: bool
    documents: int
    chunks: int
    embedding_model: str
    dimensions: int

    @property
    def label(self) -> str:
        """As tables have it, which no reader takes for a number: `v000007`, `experiment-3f9a1c0d2b4e6f80`."""
        return f"v{self.version:06d}" if isinstance(self.version, int) else f"experiment-{self.version}"


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """The question set, and which part of it was asked."""

    path: str
    format: str
    sha256: str
    questions: int
    answerable: int
    limit: int | None
    where: Mapping[str, Sequence[str]] | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model by what it did: `embedding`, `generation`, `judge`."""

    role: str
    id: str
    base_url: str | None


@dataclass(frozen=True, slots=True)
class PromptInfo:
    """A prompt by what it was for."""

    role: str
    path: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class AgreementInfo:
    """How far a judge's Correctness agrees with people, as its last calibration found."""

    judge: str
    dataset: str
    n: int
    agreement: float | None
    """Share of equal verdicts."""
    kappa: float | None
    low: float | None
    high: float | None
    """The 95 % interval of kappa."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """All of run.json that the scores do not say themselves."""

    run_id: str
    name: str
    """Empty without one."""
    status: Literal["complete", "invalid"]
    created_at: datetime
    finished_at: datetime
    ragline_version: str
    command: tuple[str, ...]
    commit: str | None
    dirty: bool | None
    """Whether the code differed from its commit."""
    index: IndexInfo
    dataset: DatasetInfo
    settings: Mapping[str, Json]
    """As `settings_json` gives them."""
    arms: tuple[Arm, ...]
    repeats: int
    search_depth: int
    seed: int
    models: tuple[ModelInfo, ...]
    prompts: tuple[PromptInfo, ...]
    priced_on: str | None
    unpriced: tuple[str, ...]
    """Models whose price is not known."""
    agreement: tuple[AgreementInfo, ...]
    """Of the judge; empty where it was never calibrated."""


def new_run_id(moment: datetime) -> str:
    """A run_id of this moment: `20261122T080000Z-3f9a1c`. Two digits of its fraction, so that ids of one second sort too."""
    fraction = moment.microsecond * 256 // 1_000_000
    return f"{re.sub('[-:]', '', clock.text(moment))}-{fraction:02x}{secrets.token_hex(2)}"


def redacted(text: str) -> str:
    """The text without user, password and query of an address, and without anything shaped like a key."""
    return hidden(_QUERY.sub("", without_userinfo(text)))


def settings_json(settings: Settings) -> dict[str, Json]:
    """All settings, nested as in ragline.toml, without secrets; prices as a list, since models name their keys."""
    values: dict[str, Any] = settings.model_dump(mode="json", exclude={"origins"})
    for section in values.values():
        if isinstance(section, dict) and section.get("base_url"):
            section["base_url"] = redacted(section["base_url"])
    values["prices"] = [{"model": model, **price} for model, price in sorted(values["prices"].items())]
    return values
