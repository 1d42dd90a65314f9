"""Money by the command line: a plan that is kept, caps, and what was spent; each kind of bad input has one clear message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rag.embedding import ledger
from rag.types import Usage
from tests.servers import faults
from tests.servers.faults import Answer, Asked, Served, reply

PRICES = '[prices]\n"openai/toy" = { input = 1_000_000.0 }\n'
"""A dollar a token."""


@pytest.fixture
def served() -> Iterator[Served]:
    with faults.serving() as serving:
        yield serving


@pytest.fixture
def paid(place: Path, served: Served) -> Path:
    """The corpus of conftest with a model that costs something."""
    with (place / "ragline.toml").open("a") as file:
        file.write(f'[embedding]\nmodel = "openai/toy"\nbase_url = "{served.url}"\nmax_usd = 1000.0\n{PRICES}')
    return place


def edit(place: Path, text: str = "# New\n\nSomething new happened at Gullvik Halt.\n") -> None:
    (place / "docs" / "new.md").write_text(text)


def test_a_plan_is_kept_carried_out_and_refused_after_an_edit(ragline: Any, paid: Path, served: Served) -> None:
    said = ragline("plan", "--out", "plan.json")
    assert (said.code, served.asked) == (0, [])
    assert "kept as plan.json: `ragline index --plan plan.json` does exactly this, or nothing" in said.out
    planned = ragline("plan", "--out", "plan.json", "--json").json
    assert (planned["out"], planned["to_embed"]) == ("plan.json", 3)
    index = ragline("index", "--plan", "plan.json", "--max-usd", "900", "--json").json
    assert (index["reason"], index["embedded"], index["tokens"]) == ("published", 3, planned["tokens"])
    assert index["billed"]["requests"] == len(served.asked)

    ragline("plan", "--out", "plan.json")
    edit(paid)
    served.asked.clear()
    refused = ragline("index", "--plan", "plan.json")
    assert (refused.code, refused.out, served.asked) == (1, "", [])
    assert "ragline: the corpus changed since the plan plan.json was made (2" in refused.err
    assert "corpus: 1 document added since: new.md" in refused.err
    assert "-> see what a plan says now: `ragline plan --out plan.json`" in refused.err
    error = ragline("index", "--plan", "plan.json", "--json").json["error"]
    assert (error["type"], len(error["problems"])) == ("PlanOutdated", 1)


def test_a_plan_that_is_none_is_refused_each_in_its_way(ragline: Any, paid: Path, served: Served) -> None:
    ragline("plan", "--out", "plan.json")
    sound = Path("plan.json").read_text()
    Path("damaged.json").write_text(sound.replace('"to_embed":3', '"to_embed":4'))
    Path("newer.json").write_text(sound.replace('"format":1,"kind"', '"format":2,"kind"').split(',"sealed')[0] + "}")
    for name, code, told in (
        ("damaged.json", 5, "make it anew: `ragline plan --out damaged.json`"),
        ("newer.json", 2, "upgrade ragline"),
        ("nowhere.json", 2, "there is no plan at nowhere.json"),
        ("docs", 2, "docs is no file"),
        ("ragline.toml", 2, "name the file that `ragline plan --out` has written"),
        ("", 2, "it is empty"),
    ):
        said = ragline("index", "--plan", name)
        assert (said.code, told in said.err, said.out) == (code, True, ""), said.err
    other = ragline("index", "--plan", "plan.json", "--index", "other")
    assert (other.code, "the plan is for the index main, this is other" in other.err) == (1, True)
    assert served.asked == []
    assert not (paid / "store").exists()


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("docs/plan.json", "lies in the corpus"),
        ("store/plan.json", "lies in the store"),
        ("ragline.toml", "is no plan: it is not overwritten"),
        ("docs", "is a folder"),
        ("nowhere/plan.json", "there is no folder nowhere"),
        ("", "it is empty"),
    ],
)
def test_a_plan_is_not_written_where_it_would_change_something(ragline: Any, paid: Path, out: str, told: str) -> None:
    (paid / "store").mkdir()
    before = (paid / "ragline.toml").read_text()
    said = ragline("plan", "--out", out)
    assert (said.code, told in said.err, said.out) == (2, True, ""), said.err
    assert (paid / "ragline.toml").read_text() == before
    assert not (paid / "docs/plan.json").exists()


def test_a_plan_may_stand_beside_a_corpus_that_does_not_take_it(ragline: Any, paid: Path) -> None:
    words = ("--set", "corpus.paths=['.']", "--set", "corpus.include=['**/*.md']")
    assert ragline("plan", "--out", "plan.json", *words).code == 0
    assert ragline("index", "--plan", "plan.json", *words).code == 0
    assert ragline("plan", "--out", "plan.json", "--set", "corpus.paths=['.']").code == 2
    hidden = ("--set", "corpus.paths=['.']", "--set", "corpus.exclude=['plan.json', 'store/**']")
    assert ragline("plan", "--out", "plan.json", *hidden).code == 0


def test_a_cap_below_the_first_request_says_what_is_needed_and_nothing_is_sent(
    ragline: Any, paid: Path, served: Served
) -> None:
    total = ragline("plan", "--json").json["tokens"]
    said = ragline("index", "--max-usd", "1")
    assert (said.code, said.out, served.asked) == (4, "", [])
    assert "the first request would cross max_usd = 1 ($0.00 used, $" in said.err
    assert f"-> `--max-usd {total}.00` or more lets the next run send the rest" in said.err
    assert ragline("index", "--max-tokens", "1").code == 4
    assert ragline("index", "--max-usd", f"{total}.00").code == 0


def test_the_cap_of_a_month_is_foreseen_kept_and_shown(ragline: Any, paid: Path, served: Served) -> None:
    now = datetime.now(UTC)
    ledger.record(paid / "store", now, "ragline eval", "openai/x", Usage(3, 50, 9, 70.0), None, "done")
    ledger.record(paid / "store", now, "ragline eval", "openai/y", Usage(3, 50, 9, None), None, "done")
    words = ("--set", "embedding.max_usd_per_month=75")
    plan = ragline("plan", *words)
    assert "this month $70.00 spent; 1 run of unknown price not counted of max_usd_per_month = 75" in plan.out
    assert "would stop at max_usd_per_month = 75 (this month $70.00 spent;" in plan.err
    told = ragline("plan", *words, "--json").json
    assert (told["max_usd_per_month"], told["spent_this_month"], told["within_budget"]) == (75.0, 70.0, False)
    (obstacle,) = told["obstacles"]
    assert (obstacle["reason"], obstacle["exit_code"]) == ("over_budget", 4)
    said = ragline("index", *words)
    assert (said.code, served.asked) == (4, [])
    assert "the first request would cross max_usd_per_month = 75 (this month $70.00 spent, $" in said.err
    assert "set embedding.max_usd_per_month to " in said.err
    checks = {
        check["check"]: check["what"] for check in ragline("settings", "--check", *words, "--json").json["checks"]
    }
    assert "at most $75.00 a month, $70.00 of it spent (1 run of unknown price not counted)" in checks["embedding"]
    assert ragline("plan", "--json").json["spent_this_month"] is None, "without a cap the ledger is not read"
    assert ragline("index", "--set", "embedding.max_usd_per_month=100000").code == 0


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("embedding.requests_per_minute=0", "greater than 0"),
        ("embedding.tokens_per_minute=0", "greater than 0"),
        ("generation.tokens_per_minute=0", "greater than 0"),
        ("embedding.max_usd_per_month=-1", "greater than or equal to 0"),
        ("embedding.max_usd_per_month=nan", "finite"),
        ("embedding.max_usd_per_month='much'", "number"),
    ],
)
def test_limits_of_zero_and_caps_that_are_none_are_mistakes_of_the_settings(
    ragline: Any, paid: Path, setting: str, told: str
) -> None:
    said = ragline("index", "--set", setting)
    assert (said.code, said.out) == (2, "")
    assert setting.partition("=")[0] in said.err
    assert told in said.err


def test_without_a_price_a_monthly_cap_alone_is_not_enough(ragline: Any, paid: Path, served: Served) -> None:
    text = (paid / "ragline.toml").read_text()
    (paid / "ragline.toml").write_text(
        text.replace(PRICES, "").replace("max_usd = 1000.0\n", "max_usd_per_month = 5\n")
    )
    said = ragline("index")
    assert (said.code, served.asked) == (4, [])
    assert "no price is known for openai/toy" in said.err
    assert "--max-tokens" in said.err
    assert ragline("index", "--max-tokens", "100000").code == 0
    spent = ragline("spend", "--json").json
    assert (spent["total"]["usd"], spent["total"]["unpriced"]) == (None, 1)
    table = ragline("spend")
    assert "1 unknown" in table.out
    assert "1 run of unknown price: not in the cost; give it under [prices]" in table.err


def test_spend_sums_by_month_command_and_model_and_names_what_it_cannot_read(ragline: Any, paid: Path) -> None:
    assert "nothing was spent" in ragline("spend").out
    torn = paid / "store/ledger/2026-02.jsonl"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"torn')
    assert "nothing that can be read was spent" in ragline("spend").out
    torn.unlink()
    ragline("index")
    edit(paid)
    ragline("index")
    month = f"{datetime.now(UTC):%Y-%m}"
    long_ago = datetime(2026, 1, 5, tzinfo=UTC)
    ledger.record(paid / "store", long_ago, "ragline eval", "openai/gpt", Usage(3, 50, 9, 0.5), None, "failed")
    with (paid / "store/ledger" / f"{month}.jsonl").open("a") as file:
        file.write('{"torn')
    said = ragline("spend")
    assert said.code == 0
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["month", "command"], ["2026-01", "ragline"], [month, "ragline"], ["total", "3"],
    ]  # fmt: skip
    assert f"{month}.jsonl:3 is no line of the ledger, and is not counted" in said.err
    found = ragline("spend", "--json").json
    assert [(row["month"], row["model"], row["runs"]) for row in found["rows"]] == [
        ("2026-01", "openai/gpt", 1),
        (month, "openai/toy", 2),
    ]
    assert found["total"]["usd"] == sum(row["usd"] for row in found["rows"])
    recent = ragline("spend", "--since", "1d", "--json").json
    assert [row["model"] for row in recent["rows"]] == ["openai/toy"]
    assert ragline("spend", "--since", "2026-01-05", "--json").json["rows"] == found["rows"]
    status = ragline("status", "--json").json["spent"]
    assert (status["runs"], status["tokens"]) == (3, found["total"]["tokens"])


@pytest.mark.parametrize("when", ["soon", "30", "2026-02-30", "3026-01-01", "", "99999999w"])
def test_a_since_that_is_none_gets_one_clear_message(ragline: Any, when: str) -> None:
    said = ragline("spend", "--since", when)
    assert (said.code, said.out) == (2, "")
    assert "--since: -> " in said.err


@pytest.mark.slow
def test_a_killed_run_is_counted_by_spend_and_status_at_once_and_accounted_for_by_the_next_writer(
    shell: Any, ragline: Any, paid: Path, served: Served
) -> None:
    words = "--runner direct --set embedding.concurrency=1"
    assert shell(f"ragline index {words}", RAGLINE_FAULT="embed.answered:1:kill").code == 137
    told = ragline("spend", "--json").json
    assert (told["killed"], told["running"], told["total"]["runs"]) == (1, 0, 1)
    assert told["total"]["requests"] == len(served.asked) == 1
    assert "1 run killed: counted with what was answered" in ragline("spend").err
    assert ragline("status", "--json").json["spent"]["runs"] == 1
    assert not list((paid / "store/ledger").glob("*.jsonl")), "who only reads writes nothing"
    assert ragline("index").code == 0
    assert [line.outcome for line in ledger.entries(paid / "store")] == ["killed", "done"]
    assert ragline("spend", "--json").json["total"]["requests"] == len(served.asked)


@pytest.mark.slow
def test_an_evaluation_that_is_killed_is_counted_with_what_its_models_were_paid(
    shell: Any, ragline: Any, paid: Path, served: Served
) -> None:
    def answered(asked: Asked) -> Answer:
        if "messages" not in asked:
            return reply(asked)
        body = {
            "id": "x", "object": "chat.completion", "created": 0, "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Seven. [1]"}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }  # fmt: skip
        return Answer(200, json.dumps(body).encode(), {"content-type": "application/json"})

    served.always = answered
    with (paid / "ragline.toml").open("a") as file:
        file.write('"openai/chat" = { input = 1.0, output = 2.0 }\n')
        file.write(f'[generation]\nmodel = "openai/chat"\nbase_url = "{served.url}"\nconcurrency = 1\n')
    Path("questions.csv").write_text("question,expected\nHow many arches?,seven\nWho closes the pass?,Lucie Ferrand\n")
    assert ragline("index").code == 0
    before = ragline("spend", "--json").json["total"]["runs"]
    done = shell("ragline eval questions.csv --runner direct", RAGLINE_FAULT="ledger.billed:3:kill")
    assert done.code == 137, done.err
    killed = [
        line for line in ledger.spent(paid / "store") if isinstance(line, ledger.Entry) and line.outcome == "killed"
    ]
    assert sum(line.requests for line in killed) == 3
    assert {line.model for line in killed} == {"openai/toy", "openai/chat"}
    again = shell("ragline eval questions.csv --runner direct")
    assert again.code == 0, again.err
    edit(paid)
    assert ragline("index").code == 0
    rows = ragline("spend", "--json").json
    assert rows["total"]["runs"] == before + len(killed) + 2
    chats = [row for row in rows["rows"] if row["model"] == "openai/chat"]
    assert [(row["command"], row["requests"]) for row in chats] == [
        ("ragline eval", sum("messages" in asked for asked in served.asked))
    ]


@pytest.mark.slow
@pytest.mark.prefect
def test_prefect_carries_out_the_same_plan_and_refuses_it_as_well(shell: Any, paid: Path, served: Served) -> None:
    assert shell("ragline plan --out plan.json").code == 0
    done = shell("ragline index --plan plan.json --runner prefect --json")
    assert (done.code, done.json["reason"], done.json["embedded"]) == (0, "published", 3), done.err
    served.asked.clear()
    edit(paid)
    refused = shell("ragline index --plan plan.json --runner prefect")
    assert (refused.code, served.asked) == (1, [])
    assert "nothing was sent" in refused.err
