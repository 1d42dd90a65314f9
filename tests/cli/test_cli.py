"""The command line: clean JSON, documented exit codes, and one clear message for each kind of bad input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.cli import parser


def edit(place: Path, text: str = "# New\n\nSomething new happened at Gullvik Halt.\n") -> None:
    (place / "docs" / "new.md").write_text(text)


def test_from_plan_to_answer(ragline: Any) -> None:
    plan = ragline("plan", "--json", "--detailed-exitcode")
    assert (plan.code, plan.json["ok"], plan.json["to_embed"]) == (20, True, 3)
    index = ragline("index", "--json")
    assert (index.json["reason"], index.json["version"], index.json["embedded"]) == ("published", 1, 3)
    assert ragline("plan", "--json", "--detailed-exitcode").code == 0
    assert ragline("index", "--json").json["reason"] == "unchanged"
    answer = ragline("ask", "--json", "Who closes the pass?").json
    assert "Lucie Ferrand" in answer["answer"]
    assert not answer["abstained"]
    citation = answer["citations"][0]
    text = Path("docs", citation["doc_id"]).read_text()
    assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_json_starts_with_the_promised_keys_and_keeps_stdout_clean(ragline: Any) -> None:
    for words in (
        ["plan"],
        ["index"],
        ["ask", "Who?"],
        ["versions"],
        ["status"],
        ["verify"],
        ["gc"],
        ["cache", "stats"],
    ):
        said = ragline(*words, "--json")
        assert list(said.json)[:4] == ["schema_version", "command", "ok", "exit_code"], words
        assert said.json["exit_code"] == said.code


def test_streaming_gives_pieces_that_join_to_the_answer(ragline: Any) -> None:
    ragline("index")
    lines = [json.loads(line) for line in ragline("ask", "--json", "--stream", "How many arches?").out.splitlines()]
    assert "".join(line["delta"] for line in lines[:-1]) == lines[-1]["answer"]
    assert lines[-1]["command"] == "ask"


def test_an_error_of_a_stream_is_one_line_too(ragline: Any) -> None:
    for words in (["Who?"], [], ["Who?", "--where", "lang"]):
        (line,) = ragline("ask", *words, "--json", "--stream").out.splitlines()
        assert json.loads(line)["error"]["message"], words


def test_a_mistake_is_told_as_the_arguments_ask_not_as_those_of_the_process(
    ragline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pytest", "--json"])
    said = ragline("rolback")
    assert (said.out, "did you mean rollback?" in said.err) == ("", True)
    monkeypatch.setattr("sys.argv", ["pytest"])
    assert ragline("rolback", "--json").json["error"]["message"].endswith("did you mean rollback?")


def test_a_dry_compaction_counts_what_the_real_one_merges(ragline: Any, place: Path) -> None:
    for number in range(3):
        edit(place, f"# New\n\nVersion {number} of this page.\n")
        ragline("index")
    assert ragline("cache", "compact", "--dry-run", "--json").json["removed_files"] == 2
    assert ragline("cache", "stats", "--json").json["namespaces"][0]["segments"] == 3
    assert ragline("cache", "compact", "--json").json["removed_files"] == 2
    assert ragline("cache", "stats", "--json").json["namespaces"][0]["segments"] == 1


def test_checking_the_settings_opens_no_file_of_the_corpus(ragline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag.corpus.snapshot._read", lambda *_: pytest.fail("a file was read"))
    checks = {check["check"]: check["what"] for check in ragline("settings", "--check", "--json").json["checks"]}
    assert checks["corpus"] == "3 files to read"


def test_a_question_that_was_paid_for_is_answered_and_booked_even_where_nothing_can_be_kept(
    ragline: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag import storage
    from rag.embedding.cache import VectorCache
    from rag.errors import StorageFailed
    from rag.types import EmbeddingIdentity

    ragline("index")

    class Paid:
        identity = EmbeddingIdentity("openai", "paid")

        def __init__(self, inner: Any) -> None:
            self._inner = inner
            self.limits = inner.limits

        async def embed(self, texts: Any, role: Any) -> Any:
            return await self._inner.embed(texts, role)

    def paid(*_: Any) -> Paid:
        from rag import wiring
        from rag.settings import load

        settings = load([Path("ragline.toml")])
        return Paid(wiring.embedding_model(wiring.embedding_settings(settings), None, wiring.World.real()))

    monkeypatch.setattr("rag.wiring.query_model", paid)
    assert ragline("ask", "Who closes the pass?", "--json").code == 0
    spent = ragline("status", "--json").json["spent"]
    assert (spent["runs"], spent["tokens"] > 0, spent["usd"]) == (1, True, None)
    assert ragline("ask", "Who closes the pass?", "--json").code == 0
    assert ragline("status", "--json").json["spent"]["runs"] == 1, "the vector was kept"

    def refuse(*_: Any) -> None:
        raise StorageFailed("cannot write: Read-only file system")

    monkeypatch.setattr(VectorCache, "add", refuse)
    monkeypatch.setattr(storage, "append_line", refuse)
    said = ragline("ask", "Who really closes the pass?")
    assert (said.code, "Lucie Ferrand" in said.out) == (0, True)
    assert "cannot be kept" in said.err


def test_a_question_that_nothing_supports_is_not_answered(ragline: Any) -> None:
    ragline("index")
    answer = ragline("ask", "--json", "What does a kilo of saffron cost in Lisbon?").json
    assert answer["abstained"]
    assert answer["citations"] == []


def test_where_filters_before_top_k_in_every_mode(ragline: Any) -> None:
    ragline("index")
    for mode in ("hybrid", "dense", "lexical", "rrf"):
        found = ragline(
            "ask", "--json", "depot viaduct pass", "--where", "lang=de", "--set", f"retrieval.mode={mode}"
        ).json
        assert {passage["doc_id"] for passage in found["passages"]} == {"depot.md"}, mode
    both = ragline("ask", "--json", "depot pass", "--where", "lang=de", "--where", "lang=en").json
    assert {passage["doc_id"] for passage in both["passages"]} == {"depot.md", "pass.md"}
    unknown = ragline("ask", "--json", "depot", "--where", "colour=red")
    assert unknown.code == 2
    assert "lang" in unknown.json["error"]["problems"][0]["remedy"]


def test_rollback_gives_back_the_old_answers_and_holds(ragline: Any, place: Path) -> None:
    ragline("index")
    before = ragline("ask", "--json", "Gullvik").json["passages"]
    edit(place)
    ragline("index")
    assert ragline("ask", "--json", "Gullvik").json["passages"] != before
    assert ragline("rollback", "--reason", "not true", "--json").json["version"] == 1
    assert ragline("ask", "--json", "Gullvik").json["passages"] == before
    held = ragline("index", "--json")
    assert (held.code, held.json["reason"], held.json["ok"]) == (6, "held", False)
    status = ragline("status", "--json").json
    assert status["hold"]["reason"] == "not true"
    again = ragline("publish")
    assert "version 2 is live: the newest, which" in again.out
    assert "rolled back (not true); the hold is lifted" in again.out
    assert ragline("status", "--json").json["hold"] is None
    assert "now 2" in ragline("rollback").out
    assert ragline("publish", "1", "--json").json["lifted"]["from_version"] == 2


def test_verify_names_file_digests_and_remedy_and_repair_mends(ragline: Any, place: Path) -> None:
    ragline("index")
    for name in ("index.faiss", "chunks.parquet", "documents.parquet", "lexical/data.npy"):
        path = place / "store/indexes/main/v000001" / name
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        said = ragline("verify", "--json")
        assert said.code == 5
        assert [problem["file"] for problem in said.json["problems"]] == [str(path)]
        assert all(said.json["problems"][0][key] for key in ("expected", "actual", "repair"))
        asked = ragline("ask", "--json", "Who closes the pass?")
        assert asked.code == 5
        mended = ragline("repair", "--json")
        assert (mended.code, mended.json["problems"]) == (0, []), name
        assert path.read_bytes() == sound
        assert ragline("verify").code == 0


def test_repair_of_a_cache_segment_pays_only_for_the_lost_records(ragline: Any, place: Path) -> None:
    ragline("index")
    (segment,) = (place / "store/cache").rglob("*.arrow")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    assert ragline("verify").code == 5
    repaired = ragline("repair", "--json").json
    assert repaired["lost_records"] == 1
    edit(place)
    again = ragline("index", "--json").json
    assert again["embedded"] == 2
    assert {cause["cause"] for cause in again["causes"]} == {"empty cache", "new"}


def test_a_flipped_current_is_found_and_put_back(ragline: Any, place: Path) -> None:
    ragline("index")
    path = place / "store/indexes/main/CURRENT"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b'"version":1', b'"version":7'))
    asked = ragline("ask", "--json", "Who?")
    assert asked.code == 5
    assert "ragline" in asked.json["error"]["problems"][0]["remedy"]
    assert ragline("verify").code == 5
    assert ragline("repair").code == 0
    assert path.read_bytes() == sound


def test_gc_keeps_what_is_live_and_what_a_reader_holds(ragline: Any, place: Path) -> None:
    from rag.index.versions import Versions

    for number in range(4):
        edit(place, f"# New\n\nVersion {number} of this page.\n")
        ragline("index")
    with Versions(place / "store", "main").open(1):
        removed = ragline("gc", "--keep", "1", "--json").json["removed"]
        assert 1 not in removed
        assert 4 not in removed
    assert 1 in ragline("gc", "--keep", "1", "--json").json["removed"]
    assert ragline("ask", "Who closes the pass?").code == 0


def test_prune_says_what_it_costs_to_buy_back(ragline: Any, place: Path) -> None:
    edit(place)
    ragline("index")
    (place / "docs/new.md").unlink()
    ragline("index", "--allow-removed")
    ragline("gc", "--keep", "1", "--json")
    assert ragline("cache", "prune", "--dry-run", "--json").json["dry_run"]


BAD = [
    (["plan", "--set", "corpus.paths=['nowhere']"], 2, "nowhere"),
    (["plan", "--set", "corpus.paths=['dcos']"], 2, "docs"),
    (["plan", "--set", "corpus.paths=[]"], 2, "corpus"),
    (["plan", "--set", "embedding.model=openai/o1-mini"], 2, "is a chat model; embedding models are"),
    (["plan", "--set", "embedding.model=openai/text-embeding-3-small"], 2, "text-embedding-3-small"),
    (["plan", "--set", "embedding.model=wordlama"], 2, "local/wordllama"),
    (["plan", "--set", "retrieval.moed=dense"], 2, "did you mean mode?"),
    (["plan", "--set", "chunking.max_tokens=1"], 2, "chunking.max_tokens"),
    (["plan", "--set", "chunking.max_tokens=ten"], 2, "chunking.max_tokens"),
    (["plan", "--config", "missing.toml"], 2, "missing.toml"),
    (["index", "--set", "embedding.model=openai/text-embedding-3-small"], 2, "OPENAI_API_KEY"),
    (["ask", "Who?"], 2, "ragline index"),
    (["ask", "  "], 2, "empty"),
    (["publish", "9"], 2, "ragline index"),
    (["rollback"], 2, "version"),
    (["verify", "9"], 2, "9"),
    (["rolback"], 2, "did you mean rollback?"),
    (["index", "--alow-removed"], 2, "did you mean --allow-removed?"),
    (["publish", "seven"], 2, "seven"),
    (["status", "--max-age", "soon"], 2, "26h"),
    (["plan", "--store", ""], 2, "--store is empty"),
    (["gc", "--index", ""], 2, "--index is empty"),
    (["plan", "--max-usd", "nan"], 2, "--max-usd nan: "),
    (["plan", "--max-tokens", "-5"], 2, "--max-tokens -5: "),
    (["plan", "--index", "a/b"], 2, "--index a/b: "),
    (["eval", "--limit", "0"], 2, "from 1 up"),
    (["publish"], 2, "ragline index"),
    (["gc", "--wait", "nan"], 2, "no number of seconds"),
    (["ask", "Who?", "-k", "0"], 2, "from 1 up"),
    (["ask", "Who?", "--where", "lang"], 2, "key=value"),
]


@pytest.mark.parametrize(("words", "code", "told"), BAD, ids=[" ".join(words) for words, _, _ in BAD])
def test_bad_input_gets_one_clear_message_and_its_exit_code(
    ragline: Any, words: list[str], code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["ragline", *words])
    if words == ["ask", "  "]:
        ragline("index")
    said = ragline(*words)
    assert said.code == code
    assert told in said.err
    assert said.out == ""
    if "usage" not in said.err and "--help`" not in said.err:
        assert ragline(*words, "--json").json["error"]["message"]


def test_the_flags_of_every_command_may_stand_before_it_and_behind_it(ragline: Any) -> None:
    said = ragline("--set", "retrieval.k=2", "--json", "settings", "--set", "retrieval.mode=dense", "--store", "there")
    rows = {row["key"]: row["value"] for row in said.json["settings"]}
    assert (rows["retrieval.k"], rows["retrieval.mode"], Path(rows["store"]).name) == (2, "dense", "there")
    assert ragline("--store", "a", "--json", "status", "--store", "b").json["store"].endswith("/b")
    assert ragline("--json").json["error"]["message"] == "no command is named"
    assert "did you mean status?" in ragline("statsu").err


def test_of_many_mistakes_a_person_reads_ten_and_a_program_all(ragline: Any) -> None:
    sets = [word for number in range(14) for word in ("--set", f"retrieval.x{number}=1")]
    problems = ragline("plan", *sets, "--json").json["error"]["problems"]
    assert len(problems) == 14
    said = ragline("plan", *sets).err
    assert sum(f"{problem['where']}: " in said for problem in problems) == 10
    assert said.count(problems[0]["remedy"]) == 1
    assert said.endswith("  and 4 more, which --json lists\n")


def test_a_version_is_asked_as_it_was_made_and_a_flag_that_says_otherwise_is_told_so(ragline: Any) -> None:
    ragline("index", "--set", "chunking.max_tokens=100")
    same = ("chunking.max_tokens=100", "chunking.strategy=structure", "index.kind=auto", "retrieval.k=1")
    assert ragline("ask", "Who closes the pass?", *(word for text in same for word in ("--set", text))).err == ""
    assert ragline("ask", "Who closes the pass?").err == "", "settings that change by themselves are no surprise"
    other = ("chunking.max_tokens=90", "embedding.model=openai/text-embedding-3-small", "index.kind=hnsw")
    said = ragline("ask", "Who closes the pass?", *(word for text in other for word in ("--set", text)))
    made = "chunking.max_tokens = 100, embedding.model = local/wordllama, index.kind = flat"
    assert f"version 1 was made with {made}" in said.err
    assert "Lucie Ferrand" in said.out


def test_a_new_index_that_a_flag_names_says_whose_corpus_it_takes(ragline: Any, place: Path) -> None:
    said = ragline("index", "--index", "notes")
    assert said.code == 0
    assert f"index notes is new, and is made of the corpus of {place / 'ragline.toml'} ({place / 'docs'})" in said.err
    assert "is new" not in ragline("plan", "--index", "notes").err
    assert "is new" not in ragline("plan", "--index", "more", "--set", 'corpus.paths=["docs"]').err
    assert "is new" not in ragline("plan").err


def test_one_is_not_counted_in_the_plural(ragline: Any, place: Path) -> None:
    for name in ("pass.md", "depot.md"):
        (place / "docs" / name).unlink()
    said = ragline("index")
    assert "1 document, 1 chunk: 1 text embedded, 0 from the cache" in said.out
    told = "\n".join(ragline(*words).out for words in (["status"], ["verify"], ["gc"], ["plan", "--rehash"]))
    assert "1 document, 1 chunk" in told
    assert re.findall(r"\b1 \w+s\b(?<! is)(?<! was)", told) == []


def test_settings_name_the_origin_of_each_value_and_all_mistakes_at_once(
    ragline: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGLINE_RETRIEVAL__K", "7")
    rows = {row["key"]: row for row in ragline("settings", "--json", "--set", "retrieval.mode=dense").json["settings"]}
    assert (rows["retrieval.k"]["value"], rows["retrieval.k"]["origin"]) == (7, "environment RAGLINE_RETRIEVAL__K")
    assert rows["retrieval.mode"]["origin"] == "--set retrieval.mode=dense"
    assert rows["corpus.paths"]["origin"].endswith("ragline.toml")
    (place / "ragline.toml").write_text(
        'stor = "x"\n[corpus]\npath = ["docs"]\n[retrieval]\nmode = "desne"\n[chunkng]\nx = 1\n'
    )
    said = ragline("settings", "--json")
    assert said.code == 2
    told = json.dumps(said.json["error"]["problems"])
    assert len(said.json["error"]["problems"]) == 4
    for word in ("store", "paths", "did you mean dense", "chunking"):
        assert word in told
    (place / "ragline.toml").write_text("[corpus\n")
    assert "not valid TOML" in ragline("plan").err


def test_a_store_of_a_newer_version_is_refused(ragline: Any, place: Path) -> None:
    ragline("index")
    (namespace,) = (place / "store/cache").glob("*/namespace.json")
    namespace.write_text(json.dumps({**json.loads(namespace.read_text()), "format": 99}))
    edit(place)
    said = ragline("index")
    assert said.code == 2
    assert "upgrade" in said.err


def test_what_a_file_lacks_is_told_once_with_the_setting_that_helps(ragline: Any, place: Path) -> None:
    (place / "docs" / "a.csv").write_text("id,body\n1,one\n2,two\n")
    (place / "docs" / "b.csv").write_text("id,article\n3,three\n4,four\n5,five\n")
    said = ragline("index")
    assert said.code == 1
    assert said.err.count("b.csv") == 1
    assert "b.csv:2, and 2 more records of it: columns: no column" in said.err
    assert "corpus.text_column and corpus.id_column take a list" in said.err
    assert ragline("index", "--set", 'corpus.text_column=["article", "body"]').code == 0


def test_two_documents_with_one_id_are_named_both(ragline: Any, place: Path) -> None:
    (place / "more").mkdir()
    (place / "more" / "pass.md").write_text("# Pass\n\nAnother page of this name.\n")
    said = ragline("index", "--set", 'corpus.paths=["docs", "more"]')
    assert said.code == 1
    assert "docs/pass.md" in said.err
    assert "more/pass.md" in said.err


def test_commands_in_messages_are_about_the_same_index_and_store(ragline: Any, place: Path) -> None:
    flags = ("--store", "other store", "--index", "small", "--set", "chunking.max_tokens=64")
    again = "--store 'other store' --index small --set chunking.max_tokens=64`"
    assert f"`ragline publish 1 {again} makes it live" in ragline("index", *flags, "--no-publish").out
    assert f"run `ragline index {again}" in ragline("status", *flags).out
    assert f"`ragline index --plan p.json {again}" in ragline("plan", *flags, "--out", "p.json").out
    failed = ragline("ask", "Who?", *flags)
    assert f"run `ragline publish 1 {again}" in failed.err
    assert "other store" in failed.err.splitlines()[0]
    wrong = ragline("plan", *flags, "--set", "embedding.tokens_per_minute=0")
    assert "`ragline settings --store 'other store' --index small` shows every value" in wrong.err
    assert ragline("ask", "Who?", *flags, "--json").json["error"]["problems"][0]["remedy"] == "run `ragline publish 1`"


def test_no_secret_of_the_command_line_is_said_again(ragline: Any, place: Path) -> None:
    sets = ('embedding.base_url="http://anna:pw%41secret@127.0.0.1:9/v1"', "embedding.api_key_env=SIM_KEY")
    flags = [word for text in (*sets, "embedding.max_usd=1") for word in ("--set", text)]
    said = ragline("status", *flags).out
    assert "anna" not in said
    assert "pw%41" not in said
    assert "--set embedding.api_key_env=SIM_KEY --set embedding.max_usd=1`" in said
    wrong = ragline("status", "--set", "embedding.api_key=gHt7secretvalue", *flags)
    assert "gHt7" not in wrong.out + wrong.err


def test_settings_of_a_folder_above_are_named(ragline: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "settings of" not in ragline("status").err
    (place / "below").mkdir()
    monkeypatch.chdir(place / "below")
    assert f"settings of {place / 'ragline.toml'}, the nearest above this folder" in ragline("status").err
    assert "settings of" not in ragline("status", "--config", str(place / "ragline.toml")).err


def test_every_command_has_help_with_an_example(ragline: Any) -> None:
    (action,) = (action for action in parser()._actions if action.choices and "index" in action.choices)
    for name in action.choices or ():
        said = ragline(str(name), "--help")
        assert said.code == 0
        assert "example:" in said.out


def test_control_bytes_of_a_document_never_reach_the_terminal(ragline: Any, place: Path) -> None:
    edit(place, "# Bell\x1b[31m\n\nThe bell \x1b]0;owned\x07 of the chapel weighs 300 kilograms.\n")
    ragline("index")
    said = ragline("ask", "How much does the bell of the chapel weigh?")
    assert "300" in said.out
    assert "\x1b" not in said.out
    assert "\x07" not in said.out


def test_a_live_version_that_is_gone_is_built_anew_and_nothing_is_paid_or_pruned(ragline: Any, place: Path) -> None:
    ragline("index")
    shutil.rmtree(place / "store/indexes/main/v000001")
    assert ragline("status").code == 5
    pruned = ragline("cache", "prune", "--json")
    assert (pruned.code, pruned.json["error"]["type"]) == (5, "Damaged")
    again = ragline("index", "--json").json
    assert (again["reason"], again["version"], again["embedded"]) == ("published", 2, 0)
    assert ragline("ask", "Who closes the pass?").code == 0


def test_neither_rollback_nor_index_makes_a_damaged_version_live(ragline: Any, place: Path) -> None:
    ragline("index")
    edit(place)
    ragline("index")
    path = place / "store/indexes/main/v000001/index.faiss"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert ragline("rollback").code == 5
    (place / "docs/new.md").unlink()
    back = ragline("index", "--json", "--allow-removed").json
    assert (back["reason"], back["version"], back["embedded"]) == ("published", 3, 0)
    assert ragline("ask", "Who closes the pass?").code == 0
