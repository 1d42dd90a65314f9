"""Settings: ragline.toml < environment < flags, each value with its origin, every mistake in one message.

pydantic checks at this border; inside, settings are frozen values. A path is relative to the file that names it, in a
flag or a variable to the working directory. Keys of providers never stand here: `api_key_env` names the variable.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rag.counted import counted
from rag.errors import Problem, SettingsError

PREFIX = "RAGLINE_"
FILE_NAME = "ragline.toml"
Positive = Annotated[int, Field(gt=0, le=10**12)]
Few = Annotated[int, Field(gt=0, le=10_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
"""One name, or a list of them."""


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(name: str) -> str:
    # a key that stands here by mistake would stand in messages, in limits.json and in `ragline settings`, too
    if name and not _VARIABLE.fullmatch(name):
        raise ValueError(
            f"is no name of a variable (its {counted(len(name), 'character')} are not shown: it may be a key)"
        )
    return name


Variable = Annotated[str, AfterValidator(_variable)]
"""The name of an environment variable; empty: none."""


class Section(BaseModel):
    """What every section is: frozen, and without room for a misspelt key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("takes neither true nor false")
        return value


class Corpus(Section):
    """Where the documents are."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "main"
    paths: tuple[Path, ...] = ()
    include: tuple[str, ...] = ("**/*",)
    exclude: tuple[str, ...] = ()
    encoding: str | None = None
    id_column: Names = ()
    text_column: Names = ()
    title_column: Names = ()
    max_failed_share: Share = 0.05


class Chunking(Section):
    """How documents are cut."""

    strategy: Literal["structure", "tokens", "sentences", "code"] = "structure"
    max_tokens: Annotated[int, Field(ge=16, le=100_000)] = 256
    overlap_tokens: Annotated[int, Field(ge=0)] = 32
    embed_heading_path: bool = True

    @model_validator(mode="after")
    def _overlap_is_the_smaller_part(self) -> Chunking:
        if self.overlap_tokens * 2 > self.max_tokens:
            raise ValueError(f"overlap_tokens = {self.overlap_tokens} is over half of max_tokens = {self.max_tokens}")
        return self


class Embedding(Section):
    """Which model makes the vectors, how fast, and what it may cost."""

    model: str = "local/wordllama"
    base_url: str | None = None
    api_key_env: Variable | None = None
    tokenizer: str = "auto"
    dimensions: Annotated[int, Field(gt=0, le=65_536)] | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Few = 16
    timeout_seconds: Seconds = 60.0
    max_usd: NotNegative | None = 5.0
    max_usd_per_month: NotNegative | None = None
    max_tokens: Annotated[int, Field(ge=0, le=10**15)] | None = None


class Index(Section):
    """How vectors are searched, and when a version is published."""

    kind: Literal["auto", "flat", "ivf_sq8", "hnsw"] = "auto"
    max_removed_share: Share = 0.3
    keep_versions: Few = 5


class Weights(Section):
    """The two sides of the hybrid sum."""

    lexical: NotNegative = 1.0
    dense: NotNegative

    @model_validator(mode="after")
    def _one_side_counts(self) -> Weights:
        if self.lexical == self.dense == 0:
            raise ValueError("both sides weigh nothing, so nothing would rank")
        return self


class Retrieval(Section):
    """How a question finds passages. Query-time choices: they never make a new version."""

    mode: Literal["hybrid", "dense", "lexical", "rrf"] = "hybrid"
    k: Annotated[int, Field(ge=1, le=1000)] = 5
    weights: Weights | None = None


class Generation(Section):
    """Who writes the answer."""

    model: str = "local/extractive"
    base_url: str | None = None
    api_key_env: Variable | None = None
    prompt: Path | None = None
    max_tokens: Positive = 600
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Few = 8
    timeout_seconds: Seconds = 120.0


class Judge(Section):
    """Who scores answers."""

    model: str | None = None
    base_url: str | None = None
    api_key_env: Variable | None = None
    prompt: Path | None = None
    max_tokens: Positive = 1024
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Few = 8
    timeout_seconds: Seconds = 120.0


class Evaluation(Section):
    """What is asked, and how it is scored."""

    dataset: Path | None = None
    measures: tuple[str, ...] = ()
    arms: tuple[Literal["retrieved", "oracle", "closed_book"], ...] = ("retrieved",)
    search_depth: Few = 100
    repeats: Few = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    max_error_share: Share = 0.02

    @field_validator("arms")
    @classmethod
    def _arms_are_some_and_each_once(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        if not arms or len(set(arms)) < len(arms):
            raise ValueError("names no arm, or one twice; write for example retrieved,oracle")
        return arms


class PriceOverride(Section):
    """US dollars for a million tokens."""

    input: NotNegative
    output: NotNegative = 0.0
    batch: NotNegative | None = None


class Schedule(Section):
    """When the scheduled re-index runs."""

    cron: str = "15 3 * * *"
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _cron_is_a_schedule(cls, cron: str) -> str:
        if why := _no_cron(cron):
            raise ValueError(f'is no schedule: {why}; write five fields, for example "15 3 * * *"')
        return cron

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, name: str) -> str:
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no time zone; write UTC, or for example Europe/Zurich") from None
        return name


class Settings(Section):
    """All of it. `origins` says for each `section.key` where its value comes from."""

    store: Path = Path("data/store")
    corpus: Corpus = Corpus()
    chunking: Chunking = Chunking()
    embedding: Embedding = Embedding()
    index: Index = Index()
    retrieval: Retrieval = Retrieval()
    generation: Generation = Generation()
    judge: Judge = Judge()
    evaluation: Evaluation = Evaluation()
    prices: dict[str, PriceOverride] = {}
    schedule: Schedule = Schedule()
    origins: dict[str, str] = {}

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """Every value as (`section.key`, value, origin)."""
        for name in type(self).model_fields:
            if name == "origins":
                continue
            value = getattr(self, name)
            if isinstance(value, Section):
                for key in type(value).model_fields:
                    place = f"{name}.{key}"
                    yield place, getattr(value, key), self.origins.get(place, "default")
            else:
                yield name, value, self.origins.get(name, "default")


_NICKNAMES = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})


def _no_cron(cron: str) -> str:
    """Why this is no schedule; empty where it is one."""
    if cron in _NICKNAMES:
        return ""
    if len(cron.split()) != 5:
        return "it has not five fields"
    try:
        from cronsim import CronSim, CronSimError  # comes with Prefect, without which there is no schedule either
    except ModuleNotFoundError:
        return ""
    try:
        return "" if next(CronSim(cron, datetime(2026, 1, 1)), None) else "that day never comes"  # noqa: DTZ001
    except (CronSimError, ValueError) as error:
        return "it holds a number without end" if isinstance(error, ValueError) else str(error).lower()


_PATHS = {"store", "corpus.paths", "generation.prompt", "judge.prompt", "evaluation.dataset"}
_SECRET_NAME = re.compile(r"(key|token|secret|password)$")
"""Of what is no setting, and is given as one: it must not be told on."""
_TOKENIZER_FILE = re.compile(r"/|\.json$")


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as somebody gave it."""

    place: tuple[str, ...]
    value: Any
    origin: str
    base: Path


def load(
    configs: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    cwd: Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from files (later wins), environment and `section.key=value` flags.

    `flags` names those of `sets` that were not given as `--set`. Without `configs`, the nearest ragline.toml from `cwd` upward is read. Raises SettingsError with every mistake.
    """
    cwd = cwd or Path.cwd()
    problems: list[Problem] = []
    given: list[_Given] = []
    for path in configs or nearest(cwd):
        given += _from_file(path, problems)
    given += _from_environment(environ or {}, cwd, problems)
    given += _from_flags(sets, flags or {}, cwd, problems)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for item in given:
        place = ".".join(item.place)
        if not _known(item, problems):
            continue
        value = item.value
        try:
            if place in _PATHS and not (place == "corpus.paths" and isinstance(value, str)):
                value = _resolved(value, item.base)
            elif place == "embedding.tokenizer" and isinstance(value, str) and _TOKENIZER_FILE.search(value):
                value = str(_resolved(value, item.base))
        except ValueError as error:
            problems.append(Problem(item.origin, f"{place}: {error} (given: {_shown(value)})", "write another path"))
            continue
        holder = merged
        for part in item.place[:-1]:
            holder = holder.setdefault(part, {})
        holder[item.place[-1]] = value
        origins[place] = item.origin
    if "store" not in merged:
        merged["store"] = cwd / "data/store"
    try:
        settings = Settings.model_validate({**merged, "origins": origins})
    except ValidationError as error:
        problems += [_problem(detail, origins) for detail in error.errors()]
        settings = None
    if problems or settings is None:
        raise SettingsError(f"the settings have {counted(len(problems), 'mistake')}", problems)
    return settings


def without_secret(text: str) -> str:
    """A `section.key=value` as it may be told on: no key in the place of a setting, or of its variable.

    >>> without_secret("embedding.api_key=x"), without_secret("embedding.api_key_env=MY_KEY"), without_secret("a.api_key_env=x/y")
    ('embedding.api_key=...', 'embedding.api_key_env=MY_KEY', 'a.api_key_env=...')
    """
    name, _, value = text.partition("=")
    place = name.strip().lower()
    variable = place.endswith("api_key_env") and not _VARIABLE.fullmatch(value.strip("\"' "))
    return f"{name}=..." if variable or _SECRET_NAME.search(place) else text


def nearest(cwd: Path) -> list[Path]:
    """The ragline.toml of a folder, or of the nearest above it; none is none."""
    return next(([folder / FILE_NAME] for folder in [cwd, *cwd.parents] if (folder / FILE_NAME).is_file()), [])


def _from_file(path: Path, problems: list[Problem]) -> list[_Given]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        problems.append(Problem(str(path), "there is no such settings file", "check --config"))
        return []
    except OSError as error:
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}", "check the path and its permissions"))
        return []
    except UnicodeDecodeError as error:
        problems.append(Problem(str(path), f"is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8"))
        return []
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deep, or a number too long"
        problems.append(Problem(str(path), f"is not valid TOML: {why}", "mend what it names"))
        return []
    given: list[_Given] = []
    base = path.resolve().parent
    for name, value in content.items():
        if not isinstance(value, dict):
            given.append(_Given((name,), value, str(path), base))
            continue
        given += [_Given((name, key), inner, str(path), base) for key, inner in value.items()]
        if not value and name not in Settings.model_fields:
            given.append(_Given((name, ""), None, str(path), base))
    return given


def _from_environment(environ: Mapping[str, str], cwd: Path, problems: list[Problem]) -> list[_Given]:
    given: list[_Given] = []
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX):
            continue
        place = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
        if len(place) == 1 and place != ("store",):
            section, _, key = place[0].partition("_")
            meant = {f"{section}.{key}", *(f"{holder}.{place[0]}" for holder in Settings.model_fields)}
            near = [where for where, _, _ in Settings().rows() if where in meant]
            if near or place[0] in Settings.model_fields:
                named = [f"{PREFIX}{where.upper().replace('.', '__')}" for where in near]
                remedy = f"write {' or '.join(named) or f'{name}__KEY'}"
                problems.append(Problem(name, "names no setting: two underscores part section and key", remedy))
            continue
        if len(place) > 2:
            problems.append(Problem(name, "names no setting", f"write {PREFIX}SECTION__KEY"))
            continue
        given.append(_Given(place, _toml_value(text), f"environment {name}", cwd))
    return given


def _from_flags(sets: Sequence[str], flags: Mapping[str, str], cwd: Path, problems: list[Problem]) -> list[_Given]:
    given: list[_Given] = []
    for text in sets:
        place, equals, value = text.partition("=")
        parts = tuple(part.strip() for part in place.split(".", 1))
        if not equals or not all(parts):
            problems.append(
                Problem(f"--set {text}", "is not section.key=value", "write for example --set retrieval.k=8")
            )
            continue
        shown = flags.get(text, f"--set {without_secret(text)}")
        given.append(_Given(parts, _toml_value(value.strip()), _cut(shown), cwd))
    return given


def _toml_value(text: str) -> Any:
    """A TOML value; what is none, or goes on behind it, is taken as a bare string."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def _resolved(value: Any, base: Path) -> Any:
    """A path, or a list of paths, as seen from a folder. Raises ValueError."""
    if isinstance(value, str):
        if not value or "\0" in value:
            raise ValueError("a path holds a NUL byte" if value else "a path is empty")
        try:
            return base / Path(value).expanduser()
        except RuntimeError:
            raise ValueError(f"there is no user {value.partition('/')[0]}") from None
    if isinstance(value, list):
        return [_resolved(item, base) for item in value]
    return value


def _known(item: _Given, problems: list[Problem]) -> bool:
    """Whether the setting exists; adds a problem that offers the nearest name where it does not."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items() if name != "origins"}
    section, *rest = item.place
    if section not in sections:
        offer = _nearest_name(section, sections)
        if rest and not offer:
            holders = [name for name, kind in sections.items() if _is_section(kind) and rest[0] in kind.model_fields]
            offer = f"; {rest[0]} is a setting of [{holders[0]}]" if holders else ""
        problems.append(Problem(item.origin, f"unknown section [{section}]{offer}", "sections: " + ", ".join(sections)))
        return False
    kind = sections[section]
    if _is_section(kind):
        if len(item.place) == 1:
            problems.append(
                Problem(item.origin, f"{section} is a section, not a value", f"write [{section}] and its keys")
            )
            return False
        if rest[0] not in kind.model_fields:
            keys = list(kind.model_fields)
            what = f"[{section}] has no setting {rest[0]}{_nearest_name(rest[0], keys)}"
            problems.append(Problem(item.origin, what, f"settings of [{section}]: " + ", ".join(keys)))
            return False
    elif section == "store" and rest:
        problems.append(Problem(item.origin, "store is a value, not a section", 'write store = "path"'))
        return False
    elif section == "prices" and not (rest and isinstance(item.value, dict)):
        what = f"{'.'.join(item.place)} = {_shown(item.value)}: a price is a table of its model"
        problems.append(
            Problem(item.origin, what, 'write [prices] and "openai/my-model" = { input = 0.02, output = 0.0 }')
        )
        return False
    return True


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _nearest_name(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    """A value as a message shows it: whole when it is short."""
    try:
        text = repr(str(value) if isinstance(value, Path) else value)
    except ValueError:  # an int of thousands of digits has no decimal form
        return "a very long number"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:80]}... ({len(text):,} characters)"


def _problem(detail: Any, origins: Mapping[str, str]) -> Problem:
    parts = [str(part) for part in detail["loc"]]
    place = ".".join(parts[:2])
    origin = origins.get(place) or next(
        (text for name, text in origins.items() if name.startswith(place + ".")), "default"
    )
    what = f"{'.'.join(parts)}: {detail['msg'].removeprefix('Value error, ')}"
    value = detail.get("input")
    if parts[-1] == "api_key_env":
        remedy = "write the name of the variable that holds the key, such as OPENAI_API_KEY, never the key"
        return Problem(origin.partition("=")[0], what, remedy)
    if detail["type"] == "literal_error" and isinstance(value, str):
        allowed = str(detail["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        what = f"{'.'.join(parts)} = {value!r} is not known{_nearest_name(value, allowed)}"
        return Problem(origin, what, "one of: " + ", ".join(allowed))
    if not isinstance(value, dict | Section):
        what += f" (given: {_shown(value)})"
    if detail["type"] == "tuple_type" and isinstance(value, str) and not value.startswith("["):
        return Problem(origin, f"{'.'.join(parts)} is a list (given: {_shown(value)})", f'write ["{_cut(value)}"]')
    return Problem(origin, what, "correct it there; `ragline settings` shows every value with its origin")
