"""A plan on disk: what `ragline plan --out` has shown is what `ragline index --plan` does, or it does nothing.

It holds digests, counts and names; no text of the corpus.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rag.corpus.sources import THE_STORE
from rag.counted import counted, plain
from rag.digest import canonical, digest
from rag.embedding.plan import DocumentChanges, Plan
from rag.errors import Damaged, NotFound, PlanOutdated, Problem, UsageError
from rag.index.differences import short
from rag.index.tables import DocumentTable
from rag.sealed import read_sealed, write_sealed
from rag.types import Excluded, Json

FORMAT = 1
KIND = "ragline plan"
NAMES_SHOWN = 10
_BEGINNING = b'{"agreed":{"index":'
Aspect = Literal["index", "store", "settings", "price", "live version", "corpus", "cache"]
States = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a plan was made with; known before anything is read."""

    index: str
    store: str
    settings: Mapping[str, Json]
    """All that decides the content beside the documents, by part: `embedding`, `chunker`, ...; and `--batch`."""
    usd_per_million: float | None


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents in which the corpus differs from the live version: doc_id -> 16 hex of what it is now."""

    added: States
    changed: States
    removed: Sequence[str]


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan as it is kept."""

    created: str
    ragline: str
    agreed: Agreed
    plan: Mapping[str, Json]
    """The fields of `ragline plan --json`, without what headings of the corpus say."""
    texts_sha256: str
    """Of the keys and tokens of all texts that are to be sent, in their order."""
    left_out_sha256: str | None
    """Of what is left out, in order; None where nothing was read, because nothing had changed."""
    readers: Sequence[str]
    documents: Documents

    def save(self, path: Path) -> None:
        """Write it in one step, over an older plan if there is one. Raises StorageFailed."""
        write_sealed(path, {"format": FORMAT, "kind": KIND, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> PlanFile:
        """Read it. Raises NotFound, UsageError for what is no plan, FormatTooNew, Damaged."""
        again = f"make it anew: `ragline plan --out {path}`"
        name_it = "name the file that `ragline plan --out` has written"
        try:
            if not path.exists():
                raise NotFound.at("--plan", f"there is no plan at {path}", f"{name_it}, or {again}")
            if not path.is_file():
                raise UsageError.at("--plan", f"{path} is no file", name_it)
            ours = is_plan(path)
            values: dict[str, Any] = dict(read_sealed(path, FORMAT, again))
        except OSError as error:
            what = f"the plan {path} cannot be read: {error.strerror}"
            raise UsageError.at("--plan", what, f"check path and permissions, or {again}") from error
        except Damaged:
            if ours:
                raise
            values = {}
        if values.pop("kind", None) != KIND:
            raise UsageError.at("--plan", f"{path} is no plan", name_it)
        try:
            del values["format"]
            values["agreed"] = Agreed(**values["agreed"])
            values["documents"] = Documents(**values["documents"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise Damaged.at(str(path), f"{path} is damaged: it lacks or misuses {error}", again) from error


def is_plan(path: Path) -> bool:
    """Whether a file begins as a plan does, sound or not: nothing else is overwritten. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def refuse_place(path: Path) -> None:
    """Raise UsageError where no plan can be written, or something else would be lost."""
    there = path.parent
    what = remedy = ""
    try:
        if path.is_dir():
            what, remedy = f"{path} is a folder", "name a file"
        elif not there.is_dir():
            what, remedy = f"there is no folder {there}", "make it first, or name another"
        elif not os.access(there, os.W_OK | os.X_OK):
            what, remedy = f"{there} cannot be written", "give this user the right to it, or name another folder"
        elif path.exists() and not (path.is_file() and (path.stat().st_size == 0 or is_plan(path))):
            what, remedy = f"{path} is there, and is no plan: it is not overwritten", "name another file, or remove it"
    except OSError as error:
        what, remedy = f"{path} cannot be used: {error.strerror}", "name another file"
    if what:
        raise UsageError.at("--out", what, remedy)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it was when the plan was made."""

    aspect: Aspect
    what: str


def kept(plan: Plan, obstacles: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """The fields of `ragline plan --json` for a file: of a heading that was edited neither form is kept."""
    mute: dict[str, Json] = {"before": None, "after": None}
    causes = [asdict(cause) | (mute if cause.cause == "heading edited" else {}) for cause in plan.causes]
    return {**plan.as_json(), "causes": list[Json](causes), "obstacles": [dict(each) for each in obstacles]}


def texts_sha256(keys: NDArray[np.uint8], tokens: NDArray[np.uint32]) -> str:
    """sha256 over how many texts there are (8 bytes), their keys (uint8 [n, 32]) and their tokens (uint32 [n]), in order."""
    state = hashlib.sha256(len(keys).to_bytes(8, "little"))
    state.update(np.ascontiguousarray(keys).tobytes())
    state.update(np.ascontiguousarray(tokens, "<u4").tobytes())
    return state.hexdigest()


def left_out_sha256(rows: Sequence[Excluded]) -> str:
    """sha256 over what is left out; that the store itself is, where it lies in the corpus, shows only once it is there."""
    told = (row for row in rows if row.detail != THE_STORE)
    return digest([[row.source, row.stage, row.reason, row.doc_id, row.start, row.end] for row in told])


NO_TEXTS = texts_sha256(np.zeros((0, 32), np.uint8), np.zeros(0, np.uint32))


def documents(changes: DocumentChanges, table: DocumentTable | None) -> Documents:
    """The changed documents with what each is now; `table` may be None where nothing was read and so nothing changed."""
    added, changed = set(changes.added), set(changes.changed)
    states: dict[str, str] = {}
    for part in table.stream(("doc_id", "source_sha256", "metadata_json")) if table and (added or changed) else ():
        for doc_id, *state in zip(part["doc_id"], part["source_sha256"], part["metadata_json"], strict=True):
            if doc_id in added or doc_id in changed:
                states[doc_id] = hashlib.sha256(canonical(list[Json](state))).hexdigest()[:16]
    return Documents(
        {doc_id: states[doc_id] for doc_id in changes.added},
        {doc_id: states[doc_id] for doc_id in changes.changed},
        list(changes.removed),
    )


def set_apart(then: Agreed, now: Agreed) -> list[Difference]:
    """In what two plans differ before anything is read."""
    found: list[Difference] = []
    if then.index != now.index:
        found.append(Difference("index", f"the plan is for the index {then.index}, this is {now.index}"))
    if then.store != now.store:
        found.append(Difference("store", f"the plan is for the store {then.store}, this is {now.store}"))
    before, after = _flat(then.settings), _flat(now.settings)
    for name in sorted({*before, *after}):
        was, is_now = before.get(name), after.get(name)
        if was != is_now:
            found.append(Difference("settings", f"{name}: {short(was)} in the plan, {short(is_now)} now"))
    if then.usd_per_million != now.usd_per_million:
        was, is_now = (_price(each) for each in (then, now))
        found.append(Difference("price", f"{was} a million tokens in the plan, {is_now} now"))
    return found


_SECTIONS = {"chunker": "chunking", "index_kind": "index.kind", "reading": "corpus", "tokenizer": "embedding.tokenizer"}
"""Parts by the section of the settings that they come from."""


def _flat(settings: Mapping[str, Json]) -> dict[str, Json]:
    """The settings one by one, by the name that they have in ragline.toml where they have one."""
    found: dict[str, Json] = {}
    for part, value in settings.items():
        name = _SECTIONS.get(part, part)
        if not isinstance(value, dict) or part == "tokenizer":
            found[name] = value
            continue
        # the tokenizer is a part of its own
        found |= {f"{name}.{key}": inner for key, inner in value.items() if key != "tokenizer"}
    return found


def _price(agreed: Agreed) -> str:
    return "unknown" if agreed.usd_per_million is None else f"${plain(agreed.usd_per_million)}"


def differences(then: PlanFile, now: PlanFile) -> list[Difference]:
    """In what two plans differ; empty where to carry out one is to carry out the other."""
    found = set_apart(then.agreed, now.agreed)
    if then.plan["current_version"] != now.plan["current_version"]:
        # what changed is told against the live version, so against two of them nothing can be compared
        live = [
            each if each is not None else "none" for each in (then.plan["current_version"], now.plan["current_version"])
        ]
        return [*found, Difference("live version", f"{live[0]} in the plan, {live[1]} now")]
    for word, names in since(then.documents, now.documents):
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        shown = ", ".join(names[:NAMES_SHOWN])
        found.append(Difference("corpus", f"{counted(len(names), 'document')} {word} since: {shown}{more}"))
    if list(then.readers) != list(now.readers):
        was, is_now = (", ".join(each.readers) or "none" for each in (then, now))
        found.append(Difference("corpus", f"the readers: {was} in the plan, {is_now} now"))
    digests = {each.left_out_sha256 for each in (then, now)} - {None}
    if not found and len(digests) > 1:
        found.append(Difference("corpus", "what is left out of it is not the same"))
    if not found and then.texts_sha256 != now.texts_sha256:
        found.append(Difference("cache", _lost_or_found(then, now)))
    return found


def _lost_or_found(then: PlanFile, now: PlanFile) -> str:
    was, is_now = (int(str(each.plan["to_embed"])) for each in (then, now))
    if is_now < was:
        return f"{was - is_now:,} of {counted(was, 'text')} embedded since; `ragline index` alone sends only the rest"
    if is_now > was:
        return f"{counted(is_now - was, 'text')} lost since, {is_now:,} to embed"
    return f"{counted(is_now, 'text')} to embed as planned, but others"


def since(then: Documents, now: Documents) -> Iterator[tuple[str, list[str]]]:
    """How the corpus of `now` differs from that of `then`, both told against one live version: a word, and the doc_ids."""
    before, after = {**then.added, **then.changed}, {**now.added, **now.changed}
    gone_before, gone_after = set(then.removed), set(now.removed)
    new = {name for name in now.added if name not in then.added} | (gone_before - gone_after)
    gone = {name for name in then.added if name not in now.added} | (gone_after - gone_before)
    edited = {name for name in {*before, *after} if before.get(name) != after.get(name)} - new - gone
    for word, names in (("added", new), ("changed", edited), ("gone", gone)):
        if names:
            yield word, sorted(names)


def refuse(path: Path, created: str, found: Iterable[Difference]) -> None:
    """Raise PlanOutdated where there is a difference, with every one of them."""
    listed = list(found)
    if not listed:
        return
    aspects = list(dict.fromkeys(each.aspect for each in listed))
    another = [aspect for aspect in aspects if aspect in ("index", "store")]
    if another:
        message = f"the plan {path} is for another {' and another '.join(another)}; nothing was sent"
    else:
        names = f"{', the '.join(aspects[:-1])} and the {aspects[-1]}" if len(aspects) > 1 else aspects[0]
        message = f"the {names} changed since the plan {path} was made ({created}); nothing was sent"
    again = f"see what a plan says now: `ragline plan --out {path}`"
    ways = {
        "index": "give --index with the name in the plan",
        "store": "give --store with the folder in the plan",
        "settings": "give the same --config, --set and --batch as then",
        "price": "give the same [prices] as then",
    }
    problems = [
        Problem(each.aspect, each.what, f"{ways[each.aspect]}, or {again}" if each.aspect in ways else again)
        for each in listed
    ]
    raise PlanOutdated(message, problems)
