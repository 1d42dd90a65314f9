"""Settings from bad hands: every mistake is named at once, with its place and a remedy, and none is an internal error."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag.errors import SettingsError
from rag.settings import Settings, load


def refused(folder: Path, text: str = "", *sets: str) -> str:
    """What the error says about a file and flags."""
    config = folder / "ragline.toml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load([config], {}, sets, folder)
    assert caught.value.exit_code == 2
    assert all(problem.where and problem.remedy for problem in caught.value.problems)
    return "\n".join(f"{problem.what} -> {problem.remedy}" for problem in caught.value.problems)


BAD = [
    ('[schedule]\ncron = "61 3 * * *"', "schedule.cron: is no schedule: bad minute; write five fields"),
    ('[schedule]\ncron = "3 * * *"', "has not five fields"),
    ('[schedule]\ncron = "0 0 30 2 *"', "schedule.cron: is no schedule"),
    (f'[schedule]\ncron = "{"9" * 5000} * * * *"', "schedule.cron: is no schedule"),
    ('[schedule]\ntimezone = "Mars/Olympus"', "schedule.timezone: is no time zone; write UTC"),
    ('[schedule]\ntimezone = "Europe"', "is no time zone"),
    ('[schedule]\ntimezone = "../../etc/passwd"', "is no time zone"),
    ('store = "~nosuchuser/store"', "store: there is no user ~nosuchuser"),
    ('store = ""', "store: a path is empty"),
    ('[corpus]\npaths = ["a\\u0000b"]', "corpus.paths: a path holds a NUL byte"),
    ('[corpus]\npaths = "docs"', 'write ["docs"]'),
    ('[corpus]\nexclude = "drafts"', 'write ["drafts"]'),
    ('[embedding]\ntokenizer = "~nosuchuser/t.json"', "there is no user ~nosuchuser"),
    (f"[index]\nkeep_versions = {'9' * 5000}", "nested too deep, or a number too long"),
    (f"[index]\nkeep_versions = {'[' * 50_000}", "nested too deep, or a number too long"),
    ("[index]\nkeep_versions = 99999999999999999999999", "index.keep_versions: Input should be less than"),
    ("prices = 3", "prices = 3: a price is a table of its model"),
    ('[prices]\n"openai/x" = 3', "prices.openai/x = 3: a price is a table"),
    ('[prices]\n"openai/x" = { input = -1 }', "greater than or equal to 0"),
    ("[embedding]\nmax_usd = nan", "embedding.max_usd: Input should be a finite number"),
    ("[embedding]\ntimeout_seconds = inf", "finite number"),
    ("[embedding]\nconcurrency = -1", "greater than 0"),
    ("[evaluation]\nseed = -1", "greater than or equal to 0"),
    ("[embedding]\ndimensions = true", "embedding.dimensions: takes neither true nor false (given: True)"),
    ("[embedding]\nmax_usd = true", "embedding.max_usd: takes neither true nor false"),
    ("[embedding]\nrequests_per_minute = false", "requests_per_minute: takes neither true nor false"),
    ('[prices]\n"openai/x" = { input = true }', "prices.openai/x.input: takes neither true nor false"),
    ("[retrieval]\nweights = { lexical = 0, dense = 0 }", "nothing would rank"),
    ("[chunking]\noverlap_tokens = -1", "greater than or equal to 0"),
]


@pytest.mark.parametrize(("text", "told"), BAD, ids=[text[:40] for text, _ in BAD])
def test_a_bad_setting_is_an_ordinary_mistake(text: str, told: str, tmp_path: Path) -> None:
    said = refused(tmp_path, text)
    assert told in said
    assert len(said) < 500


def test_all_mistakes_of_file_and_flags_are_told_at_once(tmp_path: Path) -> None:
    text = 'store = ""\nprices = 3\n[schedule]\ncron = "x"\ntimezone = "x"\n[corpus]\npaths = "docs"\n'
    said = refused(tmp_path, text, "retrieval.k=0", f"index.keep_versions={'9' * 5000}", "index.king=flat")
    assert len(said.splitlines()) == 8


def test_a_file_that_is_not_utf_8_says_where(tmp_path: Path) -> None:
    (tmp_path / "ragline.toml").write_bytes("[corpus]\npaths = ['käse']\n".encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        load([tmp_path / "ragline.toml"], {}, [], tmp_path)
    assert "not UTF-8: invalid continuation byte at byte 20" in caught.value.problems[0].what


@pytest.mark.parametrize("cron", ["15 3 * * *", "@daily", "*/5 0-6,12 1 JAN,JUN MON-FRI", "0 3 L * *"])
def test_a_schedule_is_five_fields_or_a_name(cron: str) -> None:
    assert load([], {}, [f'schedule.cron="{cron}"', 'schedule.timezone="Europe/Zurich"']).schedule.cron == cron


def test_every_default_passes_its_own_checks() -> None:
    Settings.model_validate(Settings().model_dump())


def test_a_flag_of_several_lines_is_one_text(tmp_path: Path) -> None:
    # taken as TOML, only the first line would count, and the second pass for a setting of its own
    assert load([], {}, ['embedding.model="openai/a"\nb = 2'], tmp_path).embedding.model == '"openai/a"\nb = 2'
    given = load([], {"RAGLINE_CORPUS__INCLUDE": '["*.md",\n"*.txt"]'}, [], tmp_path)
    assert given.corpus.include == ("*.md", "*.txt")


def test_a_variable_with_one_underscore_is_told_the_right_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load([], {"RAGLINE_CHUNKING_MAX_TOKENS": "3", "RAGLINE_DATASETS": "/somewhere"}, (), tmp_path)
    (problem,) = caught.value.problems
    assert (problem.where, problem.remedy) == ("RAGLINE_CHUNKING_MAX_TOKENS", "write RAGLINE_CHUNKING__MAX_TOKENS")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("RAGLINE_MAX_USD", "write RAGLINE_EMBEDDING__MAX_USD"),
        ("RAGLINE_EMBEDDING", "write RAGLINE_EMBEDDING__KEY"),
        ("RAGLINE_PRICES", "write RAGLINE_PRICES__KEY"),
        ("RAGLINE_TOKENIZER", "write RAGLINE_EMBEDDING__TOKENIZER"),
    ],
)
def test_a_cap_in_a_variable_of_half_its_name_is_not_passed_over(name: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load([], {name: "0", "RAGLINE_DATASETS": "/somewhere", "RAGLINE_FAULT": "x"}, (), tmp_path)
    (problem,) = caught.value.problems
    assert (problem.where, problem.remedy) == (name, remedy)


@pytest.mark.parametrize("section", ["embedding", "generation", "judge"])
def test_a_key_in_the_place_of_its_variable_is_refused_and_not_shown(section: str, tmp_path: Path) -> None:
    key = "sk-proj-0123456789abcdef"
    places: tuple[tuple[str, dict[str, str], tuple[str, ...]], ...] = (
        (f'[{section}]\napi_key_env = "{key}"', {}, ()),
        ("", {f"RAGLINE_{section.upper()}__API_KEY_ENV": key}, ()),
        ("", {}, (f"{section}.api_key_env={key}",)),
    )
    for text, environ, sets in places:
        config = tmp_path / "ragline.toml"
        config.write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError) as caught:
            load([config], environ, sets, tmp_path)
        (problem,) = caught.value.problems
        assert "is no name of a variable" in problem.what
        assert "never the key" in problem.remedy
        assert key not in f"{caught.value} {caught.value!r} {caught.value.__context__!r} {caught.value.problems}"
    kept = {place: value for place, value, _ in load([], {}, [f"{section}.api_key_env="], tmp_path).rows()}
    assert kept[f"{section}.api_key_env"] == ""


def test_whoever_sees_only_the_exception_reads_the_problems_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load([tmp_path / "nope.toml"], {}, (), tmp_path)
    assert f"{tmp_path / 'nope.toml'}: there is no such settings file; check --config" in str(caught.value)
