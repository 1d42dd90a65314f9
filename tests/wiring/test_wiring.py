"""Settings become objects, and what cannot be right is refused before anything is read or sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag import wiring
from rag.errors import SettingsError, UnknownModel, UsageError
from rag.pipeline import Options, reindex
from rag.providers import local
from rag.settings import Settings, load

WORLD = wiring.World.real()


def settings(folder: Path, *sets: str) -> Settings:
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "pass.md").write_text("# Pass\n\nLucie Ferrand closes the pass.\n", encoding="utf-8")
    return load([], {}, ['corpus.paths=["docs"]', "store='store'", *sets], folder)


def test_a_version_is_asked_with_its_own_model_and_no_other_revision_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wiring.reindex(settings(tmp_path), Options(), lambda *_: None) as run:
        reindex(run)
    # the settings may name any other model by now: the version's own answers
    changed = settings(tmp_path, "embedding.model=openai/text-embedding-3-small", "retrieval.mode=dense")
    with wiring.Desk(changed) as desk:
        assert [passage.doc_id for passage in desk.retrieve("Who closes the pass?")] == ["pass.md"]
        for k in (0, -1):
            with pytest.raises(UsageError, match=f"k is {k}"):
                desk.retrieve("Who closes the pass?", k)
    monkeypatch.setattr(local, "revision", lambda *_: "f" * 64)
    with wiring.Desk(settings(tmp_path)) as desk, pytest.raises(UnknownModel, match="local/wordllama") as caught:
        desk.retrieve("Who closes the pass?")
    assert caught.value.exit_code == 2
    assert "here is ffffffffffff" in caught.value.message
    assert "ragline index" in caught.value.problems[0].remedy


def test_a_question_sends_the_key_of_the_settings_only_to_the_server_that_it_is_for(tmp_path: Path) -> None:
    made_at = "http://box.example/v1"
    sets = ("embedding.model=openai/toy", 'embedding.api_key_env="BOX_KEY"')
    here = settings(tmp_path, *sets, f'embedding.base_url="{made_at}/"')
    identity = wiring.embedding_model(wiring.embedding_settings(here), None, WORLD).identity
    for base_url, variable in ((f"{made_at}/", "BOX_KEY"), ("http://other.example/v1", None)):
        asked = settings(tmp_path, *sets, f'embedding.base_url="{base_url}"')
        model = wiring.query_model(identity, asked, WORLD)
        assert model.identity == identity
        assert model._door._settings.api_key_env == variable  # type: ignore[attr-defined]


OPENAI = "embedding.model=openai/text-embedding-3-small"


@pytest.mark.parametrize(
    "sets",
    [
        ("embedding.tokenizer=cl100k_base",),
        ("embedding.tokenizer=bytes",),
        ("embedding.tokenizer=some/tokenizer.json",),
        (OPENAI, "embedding.tokenizer=o200k_base"),
        (OPENAI, "embedding.base_url='https://api.openai.com/v1/'", "embedding.tokenizer=wordllama"),
    ],
)
def test_a_known_model_is_counted_by_no_foreign_tokenizer(sets: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not the tokenizer of") as caught:
        wiring.parts(settings(tmp_path, *sets), WORLD)
    assert caught.value.problems[0].remedy == 'write "auto", which takes its own'


@pytest.mark.parametrize(
    ("sets", "exact"),
    [
        (("embedding.tokenizer=wordllama",), True),
        ((OPENAI, "embedding.tokenizer=bytes"), False),
        ((OPENAI, "embedding.tokenizer=cl100k_base"), True),
        (("embedding.model=openai/toy", "embedding.base_url='http://box.example/v1'"), False),
        (
            (
                "embedding.model=openai/toy",
                "embedding.base_url='http://box.example/v1'",
                "embedding.tokenizer=o200k_base",
            ),
            True,
        ),
    ],
)
def test_counts_are_exact_where_the_tokenizer_is_the_models_own_and_say_so_where_it_is_not(
    sets: tuple[str, ...], exact: bool, tmp_path: Path
) -> None:
    assert wiring.parts(settings(tmp_path, *sets), WORLD).tokenizer.exact is exact


def test_the_store_is_no_part_of_the_corpus(tmp_path: Path) -> None:
    assert wiring.corpus_spec(settings(tmp_path)).store == tmp_path / "store"


def test_a_judge_is_a_chat_model_of_its_own_section(tmp_path: Path) -> None:
    sets = ("judge.model=openai/toy", "judge.base_url='http://Box.example:80/v1/'", "judge.concurrency=3")
    made = settings(tmp_path, *sets, "judge.timeout_seconds=7", "generation.model=openai/gpt-4o")
    chat = wiring.chat_model(made.judge, made, WORLD)
    asked = chat._door._settings  # type: ignore[attr-defined]
    assert (chat.name, asked.concurrency, asked.timeout) == ("openai/toy", 3, 7.0)
    assert wiring.chat_address(made.judge) == "http://box.example/v1"
    assert wiring.chat_address(made.generation) == ""
    with pytest.raises(SettingsError, match="no judge is named"):
        wiring.chat_model(settings(tmp_path).judge, made, WORLD)
