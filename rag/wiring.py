"""Settings become objects: the one place that knows every implementation.

A notebook begins here:

    import rag
    desk = rag.open("ragline.toml")
    desk.ask("When does the last train leave the Summit?").text
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rag.clock import Clock, SystemClock
from rag.errors import Problem, SettingsError, UnknownModel, UsageError
from rag.settings import Settings, load

if TYPE_CHECKING:
    from rag.chunking.tokens import Tokenizer
    from rag.corpus.spec import CorpusSpec
    from rag.embedding.plan import Terms
    from rag.index.search import OpenVersion
    from rag.index.versions import Versions
    from rag.pipeline import Options, Parts, Progress, Reindex
    from rag.ports import EmbeddingModel, Floats, Generator
    from rag.providers.models import Known
    from rag.providers.prices import Price
    from rag.providers.settings import ModelSettings
    from rag.retrieval.retrievers import BatchRetriever
    from rag.types import Answer, EmbeddingIdentity, Json, Passage

EXTRACTIVE = "local/extractive"


@dataclass(frozen=True, slots=True)
class World:
    """What comes from outside: time and the environment that holds the keys."""

    clock: Clock
    environment: Mapping[str, str]

    @classmethod
    def real(cls) -> World:
        return cls(SystemClock(), os.environ)


def prices(settings: Settings) -> dict[str, Price]:
    """The overrides of the price table."""
    from rag.providers.prices import Price

    return {name: Price(price.input, price.output) for name, price in settings.prices.items()}


def embedding_settings(settings: Settings) -> ModelSettings:
    """The embedding model as a provider is asked for it."""
    from rag.providers.settings import ModelSettings

    asked = settings.embedding
    return ModelSettings(
        asked.model,
        asked.base_url,
        asked.api_key_env,
        asked.dimensions,
        asked.requests_per_minute,
        asked.tokens_per_minute,
        asked.concurrency,
        asked.timeout_seconds,
        prices=prices(settings),
    )


def embedding_model(asked: ModelSettings, tokenizer: Tokenizer | None, world: World) -> EmbeddingModel:
    """The model of some settings. Raises UnknownModel, SettingsError."""
    from rag.providers import registry
    from rag.providers.settings import Surroundings

    # an upper bound would reserve several times what is billed
    count = tokenizer.count if tokenizer and tokenizer.exact else None
    return registry.embedding_model(asked, Surroundings(world.clock, world.environment, count=count))


def corpus_spec(settings: Settings) -> CorpusSpec:
    """The corpus of the settings. Raises SettingsError where none is named."""
    from rag.corpus.spec import CorpusSpec

    corpus = settings.corpus
    if not corpus.paths:
        remedy = 'set [corpus] paths = ["folder"] in ragline.toml, or give --set corpus.paths=\'["folder"]\''
        raise UsageError("no corpus is named", [Problem("corpus.paths", "no corpus is named", remedy)])
    return CorpusSpec(
        corpus.paths,
        corpus.include,
        corpus.exclude,
        corpus.encoding,
        corpus.id_column,
        corpus.text_column,
        corpus.title_column,
        settings.store,
    )


def terms(settings: Settings, model: EmbeddingModel) -> Terms:
    """What embedding costs and what may be spent."""
    from rag.embedding.plan import Terms
    from rag.providers.prices import price

    asked = settings.embedding
    known = price(asked.model, asked.base_url, prices(settings))
    free = model.identity.provider == "local"
    return Terms(
        limits=model.limits,
        free=free,
        usd_per_million=known.input if known else None,
        priced_on=(known.as_of or "settings") if known and not free else None,
        max_usd=asked.max_usd,
        max_tokens=asked.max_tokens,
        requests_per_minute=asked.requests_per_minute,
        tokens_per_minute=asked.tokens_per_minute,
    )


def parts(settings: Settings, world: World) -> Parts:
    """Everything that a re-index works with. Raises SettingsError, UnknownModel, UsageError; nothing is sent."""
    from rag.chunking.registry import CHUNKERS
    from rag.chunking.tokens import load_tokenizer
    from rag.embedding.cache import VectorCache
    from rag.pipeline import Parts
    from rag.providers.models import EMBEDDING_MODELS
    from rag.retrieval import lexical

    spec = corpus_spec(settings)
    asked = embedding_settings(settings)
    identity = embedding_model(asked, None, world).identity  # an unknown model is a better message than its tokenizer
    known = EMBEDDING_MODELS.get(asked.model) if not identity.base_url else None
    if known:
        _refuse_foreign_tokenizer(settings.embedding.tokenizer, asked, known)
    tokenizer = load_tokenizer(settings.embedding.tokenizer, asked.model)
    model = embedding_model(asked, tokenizer, world)
    chunking = settings.chunking
    if chunking.max_tokens > model.limits.tokens_per_text:
        what = f"chunking.max_tokens = {chunking.max_tokens} is over the {model.limits.tokens_per_text} that {asked.model} takes"
        raise UsageError(
            what, [Problem("chunking.max_tokens", what, f"set it to {model.limits.tokens_per_text} or less")]
        )
    chunker = CHUNKERS[chunking.strategy](
        tokenizer,
        max_tokens=chunking.max_tokens,
        overlap_tokens=chunking.overlap_tokens,
        embed_heading_path=chunking.embed_heading_path,
    )
    dimensions = asked.dimensions or (known.dimensions if known else None)

    def build_lexical(chunks: Path, folder: Path) -> dict[str, Json]:
        report = asdict(lexical.build_in_child(chunks, folder))
        return dict(report)

    VectorCache(settings.store, model.identity, world.clock)  # a store of a newer version is refused before any work
    return Parts(
        store=settings.store,
        name=settings.corpus.name,
        spec=spec,
        tokenizer=tokenizer,
        chunker=chunker,
        model=model,
        dimensions=dimensions,
        terms=terms(settings, model),
        concurrency=settings.embedding.concurrency if model.identity.provider != "local" else 1,
        index_kind=settings.index.kind,
        lexical=lexical.parameters(),
        build_lexical=build_lexical,
        max_failed_share=settings.corpus.max_failed_share,
        max_removed_share=settings.index.max_removed_share,
        clock=world.clock,
    )


def _refuse_foreign_tokenizer(given: str, asked: ModelSettings, known: Known) -> None:
    """A known model's texts are counted by its own tokenizer, or, where every token is bytes, by their bytes."""
    if given not in ("auto", known.encoding) and not (given == "bytes" and asked.provider == "openai"):
        what = f"embedding.tokenizer = {given!r} is not the tokenizer of {asked.model}: its texts would be miscounted"
        raise SettingsError(what, [Problem("embedding.tokenizer", what, 'write "auto", which takes its own')])


def reindex(settings: Settings, options: Options, progress: Progress, world: World | None = None) -> Reindex:
    """A re-index, ready to run its stages."""
    from rag.pipeline import Reindex

    return Reindex(parts(settings, world or World.real()), options, progress)


def versions(settings: Settings, world: World | None = None) -> Versions:
    """The versions of the settings' index."""
    from rag.index.versions import Versions

    return Versions(settings.store, settings.corpus.name, (world or World.real()).clock)


def generator(settings: Settings, world: World, rarity: Callable[[str], float] | None = None) -> Generator:
    """Who writes answers; `rarity` of a stem in the index helps the one without a model.

    Raises UnknownModel, SettingsError.
    """
    asked = settings.generation
    if asked.model == EXTRACTIVE:
        from rag.generation.extractive import ExtractiveGenerator

        return ExtractiveGenerator(rarity, word_vectors(world) if rarity else None)
    from rag.generation.answer import GroundedGenerator
    from rag.generation.prompt import load_prompt
    from rag.providers import registry
    from rag.providers.settings import ModelSettings, Surroundings

    chat = registry.chat_model(
        ModelSettings(
            asked.model,
            asked.base_url,
            asked.api_key_env,
            requests_per_minute=asked.requests_per_minute,
            tokens_per_minute=asked.tokens_per_minute,
            concurrency=asked.concurrency,
            timeout=asked.timeout_seconds,
            prices=prices(settings),
        ),
        Surroundings(world.clock, world.environment),
    )
    return GroundedGenerator(chat, load_prompt(asked.prompt), asked.max_tokens)


def word_vectors(world: World) -> Callable[[Sequence[str]], Awaitable[Floats]] | None:
    """Vectors of single words by `local/wordllama`, whatever embedded the index; None where it is not installed."""
    from rag.providers.settings import ModelSettings

    try:
        model = embedding_model(ModelSettings("local/wordllama"), None, world)
    except UnknownModel:
        return None

    async def embed(words: Sequence[str]) -> Floats:
        return (await model.embed(words, "query")).vectors

    return embed


def query_model(identity: EmbeddingIdentity, settings: Settings, world: World) -> EmbeddingModel:
    """The model that a version was made with, never the one of the settings. Raises UnknownModel where it is not here.

    Only what is no part of the identity (the key's variable, limits) is taken from the settings.
    """
    from rag.providers.address import other_server
    from rag.providers.settings import ModelSettings

    asked = settings.embedding
    # a key is for one server: that of the settings may be another by now
    same = asked.model == identity.name and other_server(identity.provider, asked.base_url) == identity.base_url
    model = embedding_model(
        ModelSettings(
            identity.name,
            identity.base_url or None,
            asked.api_key_env if same else None,
            identity.dimensions,
            asked.requests_per_minute,
            asked.tokens_per_minute,
            asked.concurrency,
            asked.timeout_seconds,
        ),
        None,
        world,
    )
    if model.identity != identity:
        what = f"the version was embedded with {identity.name} of revision {identity.revision[:12] or '?'}, here is {model.identity.revision[:12] or 'another'}"
        remedy = "install the release of the model that it was made with, or run `ragline index` to embed it anew"
        raise UnknownModel(what, [Problem("embedding.model", what, remedy)])
    return model


class Desk:
    """A version that is held open, to ask questions of. Close it, or use it in a `with` block.

    The version answers until `close`, whatever is published meanwhile. Settings give only query-time choices: mode, k,
    weights, generator and prompt.
    """

    def __init__(self, settings: Settings, version: int | None = None, world: World | None = None) -> None:
        """Raises NotFound, Damaged, FormatTooNew, UnknownModel, SettingsError."""
        self.settings = settings
        self._world = world or World.real()
        self._opened: OpenVersion = versions(settings, self._world).open(version)
        try:
            self._model: EmbeddingModel | None = None
            self._retriever = self._make_retriever()
            self._generator = generator(settings, self._world, self._lexical.rarity)
        except BaseException:
            self._opened.close()
            raise

    @property
    def version(self) -> int:
        return self._opened.number

    @property
    def opened(self) -> OpenVersion:
        """The version's manifest, tables and index."""
        return self._opened

    def close(self) -> None:
        """Let go of the version and of every connection."""
        from rag.providers.facade import close_sync

        close_sync(self._model)
        close_sync(self._generator)
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_retriever(self) -> BatchRetriever:
        from rag.retrieval.lexical import lexical_index
        from rag.retrieval.retrievers import retriever

        opened, asked = self._opened, self.settings.retrieval
        self._lexical = lexical_index(opened.path)
        given = asked.weights
        # a static model ranks less well alone, so its voice is the smaller one (fixed beforehand, see docs/retrieval.md)
        usual = 0.5 if opened.manifest.embedding.name == "local/wordllama" else 1.0
        weights = {"lexical": given.lexical, "dense": given.dense} if given else {"lexical": 1.0, "dense": usual}
        return retriever(asked.mode, opened, self._embed, self._lexical, weights, asked.k)

    async def _embed(self, questions: Sequence[str]) -> Floats:
        """Query vectors, float32 [n, d], through the cache when they cost something."""
        if self._model is None:
            self._model = query_model(self._opened.manifest.embedding, self.settings, self._world)
        if self._model.identity.provider == "local":
            return (await self._model.embed(questions, "query")).vectors
        return await self._embed_cached(self._model, questions)

    async def _embed_cached(self, model: EmbeddingModel, questions: Sequence[str]) -> Floats:
        from rag.digest import text_keys
        from rag.embedding.cache import VectorCache
        from rag.index.prepare import first_rows

        cache = VectorCache(self.settings.store, model.identity, self._world.clock)
        keys = text_keys(model.identity, "query", questions)
        first = first_rows(keys)
        missing = np.flatnonzero((first == np.arange(len(keys))) & ~cache.lookup(keys).hit)
        for start in range(0, len(missing), model.limits.texts):
            part = missing[start : start + model.limits.texts]
            answer = await model.embed([questions[row] for row in part], "query")
            # what each was billed is known for the request only
            cache.add(keys[part], answer.vectors, np.full(len(part), answer.tokens // len(part), np.uint32))
        return cache.lookup(keys).gather(np.arange(len(keys)))

    def where(self, filters: Mapping[str, Sequence[str]] | None) -> Any:
        """The rows that a metadata filter leaves, or None for all. Raises UsageError for unknown keys."""
        return self._opened.where(filters) if filters else None

    async def aretrieve(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[Passage]:
        """The best k passages, best first, equal texts folded into one."""
        return (await self.aretrieve_many([question], k, where))[0]

    async def aretrieve_many(
        self, questions: Sequence[str], k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[list[Passage]]:
        """The best k passages of each question, all vectors searched in one batch."""
        from rag.retrieval.passages import passages

        wanted = k or self.settings.retrieval.k
        for question in questions:
            if not question.strip():
                raise UsageError(
                    "the question is empty", [Problem("QUESTION", "the question is empty", "ask something")]
                )
        rows = self.where(where)
        limit = self._opened.rows if rows is None else len(rows)
        # duplicates are folded into one passage, so a few more rows are fetched, and more where that was not enough
        depth = min(limit, wanted + 16)
        while True:
            ranked = await self._retriever.retrieve_many(questions, depth, rows)
            found = [passages(hits, self._opened, wanted) for hits in ranked]
            short = any(len(part) < wanted and len(hits) == depth for part, hits in zip(found, ranked, strict=True))
            if not short or depth >= limit:
                return found
            depth = min(limit, depth * 4)

    async def astream(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> AsyncIterator[str | Answer]:
        """Pieces of the answer as they come, then the whole Answer."""
        found = await self.aretrieve(question, k, where)
        async for piece in self._generator.answer(question, found):
            yield piece if isinstance(piece, str) else replace(piece, version=self.version)

    async def aask(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> Answer:
        """A grounded answer with its citations and passages."""
        answer: Answer | None = None
        async for piece in self.astream(question, k, where):
            if not isinstance(piece, str):
                answer = piece
        assert answer is not None
        return answer

    async def aask_many(self, questions: Iterable[str], k: int | None = None) -> list[Answer]:
        """Many questions at once, at most generation.concurrency under way; answers in the order of the questions."""
        gate = asyncio.Semaphore(self.settings.generation.concurrency)

        async def one(question: str) -> Answer:
            async with gate:
                return await self.aask(question, k)

        return list(await asyncio.gather(*(one(question) for question in questions)))

    def ask(self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None) -> Answer:
        """Ask as `aask` does, for callers without a loop, and for notebooks."""
        from rag.providers.facade import run_sync

        return run_sync(self.aask(question, k, where))

    def ask_many(self, questions: Iterable[str], k: int | None = None) -> list[Answer]:
        """As `aask_many`, for callers without a loop, and for notebooks."""
        from rag.providers.facade import run_sync

        return run_sync(self.aask_many(questions, k))

    def retrieve(
        self, question: str, k: int | None = None, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[Passage]:
        """As `aretrieve`, for callers without a loop, and for notebooks."""
        from rag.providers.facade import run_sync

        return run_sync(self.aretrieve(question, k, where))


def open_desk(config: str | Path | None = None, version: int | None = None, **sections: Mapping[str, Any]) -> Desk:
    """Open the published version (or another) of the index that a ragline.toml names.

    `sections` override settings: `open_desk("ragline.toml", retrieval={"k": 8})`.
    Raises SettingsError, NotFound, Damaged.
    """
    sets = [f"{section}.{key}={_toml(value)}" for section, values in sections.items() for key, value in values.items()]
    settings = load([Path(config)] if config else [], os.environ, sets)
    return Desk(settings, version)


def _toml(value: Any) -> str:
    import json

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def price_of(settings: Settings, model: str) -> Price | None:
    """The price of `provider/name` under these settings."""
    from rag.providers.prices import price

    return price(model, settings.embedding.base_url if settings.embedding.model == model else None, prices(settings))


def describe_corpus(settings: Settings) -> str:
    """What stands where the settings say, in a sentence. Raises CorpusMissing, UsageError."""
    from rag.corpus.snapshot import snapshot

    found = snapshot(corpus_spec(settings), None, 0)
    return f"{len(found.paths):,} files to read"


def describe_embedding(settings: Settings, world: World) -> str:
    """Model, price and key of the settings, in a sentence. Raises UnknownModel, KeyMissing; sends nothing."""
    from rag.providers.secrets import key_variable, read_key

    made = parts(settings, world)
    if made.terms.free:
        return f"{made.model.identity.name} runs on this machine and costs nothing"
    asked = embedding_settings(settings)
    read_key(asked, world.environment)
    key = "a key is there" if key_variable(asked) else "no key is sent"
    known = made.terms.usd_per_million
    price = "no price is known, so max_tokens is needed" if known is None else f"${known} a million tokens"
    return f"{made.model.identity.name}: {key}, {price}"
