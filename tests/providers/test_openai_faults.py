"""A server that goes wrong: nothing wrong comes back, and nothing is asked more often than the table says."""

from __future__ import annotations

import asyncio
import email.utils
import json
import socket
import threading
import traceback
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
import pytest

from rag.errors import KeyMissing, ProviderFailed, RaglineError, SettingsError, UnknownModel
from rag.ports import Embedded
from rag.providers.openai_api import OpenAIEmbedding
from rag.providers.retry import MOST, TABLE
from rag.providers.settings import ModelSettings, Surroundings
from tests.servers.faults import WIDTH, Answer, Asked, Script, Served, items, packed, refusal, reply, vector
from tests.servers.virtual import VirtualClock

KEY = "sk-canary-5f2e9c71d04b"
TEXTS = ["the first text", "a second", "the third of them", "four"]


class Run:
    """One request against the server, on a clock of its own."""

    def __init__(self, served: Served, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.settings = ModelSettings(
            **{
                "model": "openai/toy",
                "base_url": served.url,
                "api_key_env": "OPENAI_API_KEY",
                "dimensions": WIDTH,
                "timeout": 20.0,
                **settings,
            }
        )
        around = Surroundings(self.clock, {"OPENAI_API_KEY": KEY}, Random(7))
        self.model = OpenAIEmbedding(self.settings, around)

    def embed(self, texts: Sequence[str] = TEXTS, times: int = 1) -> Embedded:
        async def work() -> Embedded:
            try:
                return (await asyncio.gather(*(self.model.embed(texts, "passage") for _ in range(times))))[0]
            finally:
                await self.model.close()

        return asyncio.run(work())


def right(got: Embedded, texts: Sequence[str] = TEXTS) -> bool:
    return np.array_equal(got.vectors, np.stack([vector(text) for text in texts]))


def test_vectors_come_back_bit_for_bit_with_the_tokens_that_were_billed(served: Served) -> None:
    got = Run(served).embed()
    assert right(got)
    assert got.vectors.dtype == np.float32
    assert got.tokens == sum(len(text.split()) for text in TEXTS)
    assert served.asked == [{"model": "toy", "input": TEXTS, "encoding_format": "base64", "dimensions": WIDTH}]


def test_a_reversed_reply_is_put_in_order(served: Served) -> None:
    served.always = lambda asked: reply(asked, items(asked)[::-1])
    assert right(Run(served).embed())
    assert len(served.asked) == 1


def _with(change: Any) -> Script:
    def script(asked: Asked) -> Answer:
        data = items(asked)
        change(data)
        return reply(asked, data)

    return script


def _vector_of(values: list[float], kind: str = "<f4") -> Script:
    return _with(lambda data: data[1].update(embedding=packed(np.array(values, kind))))


NAN = [float("nan")] + [1.0] * (WIDTH - 1)
BAD_REPLIES: dict[str, Script] = {
    "one short": _with(lambda data: data.pop()),
    "one too many": _with(lambda data: data.append({**data[0], "index": len(data)})),
    "an index twice": _with(lambda data: data[1].update(index=0)),
    "an index beyond": _with(lambda data: data[1].update(index=99)),
    "a negative index": _with(lambda data: data[1].update(index=-1)),
    "no index": _with(lambda data: data[1].pop("index")),
    "true for an index": _with(lambda data: data[1].update(index=True)),
    "no vector": _with(lambda data: data[1].pop("embedding")),
    "NaN": _vector_of(NAN),
    "NaN in a list": _with(lambda data: data[1].update(embedding=NAN)),
    "infinity": _vector_of([float("inf")] + [0.0] * (WIDTH - 1)),
    "a number over float32": _with(lambda data: data[1].update(embedding=[1e300] * WIDTH)),
    "zero": _vector_of([0.0] * WIDTH),
    "a dimension less": _vector_of([1.0] * (WIDTH - 1)),
    "half precision": _vector_of([1.0] * WIDTH, "<f2"),
    "no base64": _with(lambda data: data[1].update(embedding="not base64!")),
    "a matrix": _with(lambda data: data[1].update(embedding=[[1.0] * WIDTH])),
    "words": _with(lambda data: data[1].update(embedding=["one"] * WIDTH)),
    "one vector for all": _with(lambda data: [item.update(embedding=data[0]["embedding"]) for item in data]),
    "another model": lambda asked: reply(asked, model="some-other"),
    "no data": lambda asked: reply(asked, []),
    "HTML": Answer(200, b"<html><body>welcome</body></html>", {"content-type": "text/html"}),
    "nothing": Answer(200, b""),
    "an empty object": Answer(200, b"{}", {"content-type": "application/json"}),
    "a list": Answer(200, b"[]", {"content-type": "application/json"}),
    "deep brackets": Answer(200, b"[" * 100_000, {"content-type": "application/json"}),
    "an error inside": Answer(200, b'{"error": {"message": "overloaded"}}', {"content-type": "application/json"}),
}


@pytest.mark.parametrize("kind", BAD_REPLIES)
def test_a_reply_of_200_that_is_not_what_was_asked_is_refused_and_asked_again(kind: str, served: Served) -> None:
    served.script = [BAD_REPLIES[kind]]
    assert right(Run(served).embed())
    assert len(served.asked) == 2
    served.always, served.asked = BAD_REPLIES[kind], []
    with pytest.raises(ProviderFailed, match="cannot be used") as caught:
        Run(served).embed()
    assert len(served.asked) == TABLE["reply"].attempts == 3
    assert caught.value.problems[0].remedy


BUSY: dict[str, Script] = {
    "500": refusal(500),
    "502 with HTML": Answer(502, b"<html>bad gateway</html>"),
    "503": refusal(503),
    "503 with Retry-After": refusal(503, headers={"retry-after": "2"}),
    "529": refusal(529, "Overloaded"),
    "408": refusal(408),
    "409": refusal(409),
    "half a body": lambda asked: Answer(**{**vars(reply(asked)), "cut": True}),
}


@pytest.mark.parametrize("kind", BUSY)
def test_a_server_in_trouble_is_asked_again_a_bounded_number_of_times(kind: str, served: Served) -> None:
    served.script = [BUSY[kind], BUSY[kind]]
    run = Run(served)
    assert right(run.embed())
    assert len(served.asked) == 3
    assert run.clock.monotonic() > 0.9
    served.always, served.asked = BUSY[kind], []
    with pytest.raises(ProviderFailed, match="sent 6 times"):
        Run(served).embed()
    assert len(served.asked) == 6


def test_no_mix_of_faults_sends_a_request_more_often_than_the_stated_number(served: Served) -> None:
    random = Random(3)
    kinds: list[Script] = [
        *BAD_REPLIES.values(),
        *BUSY.values(),
        refusal(429),
        refusal(429, headers={"retry-after": "1"}),
    ]
    for _ in range(20):
        served.script, served.asked = random.choices(kinds, k=40), []
        with pytest.raises(ProviderFailed):
            Run(served).embed()
        assert len(served.asked) <= MOST


RETRY_AFTER: dict[str, tuple[dict[str, str], float]] = {
    "seconds": ({"retry-after": "1"}, 1.0),
    "a fraction": ({"retry-after": "0.5"}, 0.5),
    "milliseconds": ({"retry-after-ms": "1250", "retry-after": "9"}, 1.25),
    "an hour": ({"retry-after": "3600"}, 3600.0),
    "a date": (
        {"retry-after": email.utils.format_datetime(VirtualClock().utc() + timedelta(seconds=90), usegmt=True)},
        90.0,
    ),
}


@pytest.mark.parametrize("form", RETRY_AFTER)
def test_retry_after_is_honoured_to_the_full_and_not_a_second_more(form: str, served: Served) -> None:
    headers, seconds = RETRY_AFTER[form]
    served.script = [refusal(429, "Rate limit reached", headers)]
    run = Run(served)
    assert right(run.embed())
    assert len(served.asked) == 2
    assert run.clock.monotonic() == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("value", ["0", "soon", "-3", "nan", "Thu, 99 Foo", "Sun, 22 Nov 2020 12:00:00 GMT"])
def test_a_retry_after_that_says_nothing_leaves_the_back_off(value: str, served: Served) -> None:
    served.script = [refusal(429, headers={"retry-after": value})]
    run = Run(served)
    assert right(run.embed())
    assert 0.5 <= run.clock.monotonic() <= 1.6


def test_a_storm_of_refusals_slows_everyone_once(served: Served) -> None:
    all_there = threading.Barrier(8, timeout=30)

    def refuse(asked: Asked) -> Answer:
        all_there.wait()
        return refusal(429, headers={"retry-after": "30"})

    run = Run(served)
    run.embed()
    served.script, served.asked = [refuse] * 8, []
    run.clock.may_pass = lambda: not run.model._door.budget._flying
    run.embed(times=8)
    assert len(served.asked) == 16
    assert run.clock.monotonic() == pytest.approx(30.0, abs=0.1)


def test_a_server_that_asks_for_more_patience_than_there_is_is_left_alone(served: Served) -> None:
    served.script = [refusal(429, headers={"retry-after": "90000"})]
    run = Run(served)
    with pytest.raises(ProviderFailed, match=r"asks to wait 90,000 s, over the 7,200 s"):
        run.embed()
    assert len(served.asked) == 1
    assert run.clock.monotonic() == 0.0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(429, "You exceeded your current quota", code="insufficient_quota"), ProviderFailed),
        (refusal(400, "Your credit balance is too low"), ProviderFailed),
        (refusal(400, "dimensions is not supported", param="dimensions"), ProviderFailed),
        (refusal(401, f"Incorrect API key provided: {KEY}"), KeyMissing),
        (refusal(403, "no access to model toy"), KeyMissing),
        (refusal(404, "The model toy does not exist"), UnknownModel),
        (refusal(422, "unknown field"), ProviderFailed),
    ],
)
def test_what_waiting_cannot_help_is_asked_once(answer: Answer, kind: type[RaglineError], served: Served) -> None:
    served.always = answer
    run = Run(served)
    with pytest.raises(kind) as caught:
        run.embed()
    assert len(served.asked) == 1
    assert run.clock.monotonic() == 0.0
    assert caught.value.problems[0].remedy
    assert not getattr(caught.value, "splittable", False)


@pytest.mark.parametrize(
    ("answer", "positions"),
    [
        (refusal(400, "This model's maximum context length is 8192 tokens, however you requested 9000"), ()),
        (refusal(400, "Invalid 'input[2]': maximum input length is 8192 tokens."), (2,)),
        (refusal(400, "'$.input' is invalid.", param="input[1]"), (1,)),
        (refusal(413, "Payload too large"), ()),
        (refusal(422, "inputs must have less than 512 tokens", param="input"), ()),
        (refusal(500, "input (6001 tokens) is too large to process"), ()),
    ],
)
def test_a_request_refused_for_one_text_says_that_it_can_be_split(
    answer: Answer, positions: tuple[int, ...], served: Served
) -> None:
    served.always = answer
    with pytest.raises(ProviderFailed) as caught:
        Run(served).embed()
    assert caught.value.splittable
    assert caught.value.positions == positions
    assert len(served.asked) == 1


def test_a_server_without_base64_is_asked_for_lists_from_then_on(served: Served) -> None:
    def picky(asked: Asked) -> Answer:
        if asked["encoding_format"] == "base64":
            return refusal(400, "encoding_format base64 is not supported")
        return reply(asked)

    served.always = picky
    run = Run(served)
    assert right(run.embed(times=3))
    assert right(run.embed())
    forms = [asked["encoding_format"] for asked in served.asked]
    assert forms.count("float") == 4
    assert forms.count("base64") <= 3
    assert forms[-1] == "float"


def test_a_server_that_answers_lists_to_base64_is_understood(served: Served) -> None:
    served.always = lambda asked: reply(asked, items({**asked, "encoding_format": "float"}))
    assert right(Run(served).embed())


@pytest.mark.parametrize("answered", ["toy", "org/TOY", "/models/toy-v2.gguf", "toy:latest", "", None])
def test_a_server_may_spell_the_models_name_its_own_way(answered: str | None, served: Served) -> None:
    served.always = lambda asked: reply(asked, model=answered)
    assert right(Run(served).embed())
    assert len(served.asked) == 1


def test_the_first_dimension_seen_holds_for_all_later_replies(served: Served) -> None:
    run = Run(served, dimensions=None)
    run.embed()
    served.script = [
        _with(lambda data: [item.update(embedding=packed(np.ones(5, "<f4") + item["index"])) for item in data])
    ]
    assert right(run.embed())
    assert len(served.asked) == 3


def test_nobody_at_the_other_end_is_told_with_address_and_remedy() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ProviderFailed, match=r"127\.0\.0\.1.*sent 6 times") as caught:
        Run(Served(url)).embed()
    assert "base_url" in caught.value.problems[0].remedy


def test_a_server_that_never_answers_is_given_up_after_the_timeout(served: Served) -> None:
    served.script = [Answer(hang=True)]
    assert right(Run(served, timeout=0.3).embed())
    assert len(served.asked) == 2


def test_a_server_that_drips_is_given_up_after_the_timeout(served: Served) -> None:
    served.script = [Answer(after=b" ", pause=0.02), Answer(500, after=b" ", pause=0.02)]
    assert right(Run(served, timeout=0.4).embed())
    assert len(served.asked) == 3


ENDLESS: dict[str, Answer] = {
    "a reply": Answer(body=b'{"data": [', after=b"0, " * 20_000),
    "a refusal": Answer(500, after=b"no " * 20_000),
    "a header of a small reply": Answer(headers={"content-encoding": "gzip"}, body=b"\x1f\x8b"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_reply_is_read_no_further_than_what_was_asked_can_take(kind: str, served: Served) -> None:
    served.script = [ENDLESS[kind]]
    assert right(Run(served).embed())
    served.always, served.asked = ENDLESS[kind], []
    with pytest.raises(ProviderFailed, match=r"cannot be used: it is (longer than|packed as)"):
        Run(served).embed()
    assert len(served.asked) == TABLE["reply"].attempts
    assert served.headers[0]["accept-encoding"] == "identity"


def test_the_largest_right_reply_has_room(served: Served) -> None:
    numbers = ["-1.1754943508222875e-38"] * 3072

    def indented(asked: Asked) -> Answer:
        body = json.loads(reply(asked, [{"index": at, "embedding": numbers} for at in range(16)]).body)
        return Answer(200, json.dumps(body, indent=8).replace('"-1', "-1").replace('-38"', "-38").encode())

    served.always = indented
    got = Run(served, dimensions=3072, model="openai/toy").model
    with pytest.raises(ProviderFailed, match="the same vector for 16 different texts"):
        asyncio.run(_closing(got, [f"text {at}" for at in range(16)]))


def test_an_empty_text_is_never_sent(served: Served) -> None:
    with pytest.raises(ProviderFailed, match="empty"):
        Run(served).embed(["a", ""])
    assert served.asked == []


LEAKS: dict[str, Script] = {
    "401": refusal(401, f"Incorrect API key provided: {KEY}. Authorization: Bearer {KEY}"),
    "401 masked": refusal(401, "Incorrect API key provided: sk-canar*******d04b."),
    "500": refusal(500, f"trace: key={KEY}"),
    "plain 400": Answer(400, f"what is {KEY}?".encode()),
    "inside a 200": Answer(200, json.dumps({"error": KEY}).encode()),
    "as a model": lambda asked: reply(asked, model=KEY),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_the_key_is_in_no_error_not_even_when_the_server_quotes_it(
    kind: str, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    served.always = LEAKS[kind]
    run = Run(served)
    with pytest.raises(RaglineError) as caught:
        run.embed()
    error = caught.value
    chain = [error, error.__cause__, error.__context__]
    told = "".join(traceback.format_exception(error)) + repr(error.problems) + repr(chain) + repr(vars(run.model))
    for secret in (KEY, KEY[3:], "sk-canar"):
        assert secret not in told
        assert secret not in caplog.text
    assert served.headers[0]["authorization"] == f"Bearer {KEY}"


def test_the_key_of_openai_goes_to_no_other_server_unless_it_is_named_for_it(served: Served) -> None:
    around = Surroundings(VirtualClock(), {"OPENAI_API_KEY": KEY, "MY_KEY": "sk-mine-123456"})
    for variable, sent in ((None, "none"), ("", "none"), ("MY_KEY", "sk-mine-123456"), ("OPENAI_API_KEY", KEY)):
        asyncio.run(_closing(OpenAIEmbedding(ModelSettings("openai/toy", served.url, variable), around)))
        assert served.headers[-1]["authorization"] == f"Bearer {sent}"
    served.always = refusal(401, "who are you?")
    with pytest.raises(KeyMissing, match="who are you") as caught:
        asyncio.run(_closing(OpenAIEmbedding(ModelSettings("openai/toy", served.url), around)))
    assert "api_key_env (OPENAI_API_KEY is sent to its own service only)" in caught.value.problems[0].remedy


def test_a_server_for_which_no_variable_is_named_gets_no_key_and_a_named_one_must_be_set(served: Served) -> None:
    here = OpenAIEmbedding(ModelSettings("openai/toy", served.url), Surroundings(VirtualClock(), {}))
    asyncio.run(_closing(here))
    assert served.headers[0]["authorization"] == "Bearer none"
    for base_url in (None, "https://models.example/v1", "http://127.example/v1", served.url):
        settings = ModelSettings("openai/text-embedding-3-small", base_url, "OPENAI_API_KEY" if base_url else None)
        with pytest.raises(KeyMissing, match="OPENAI_API_KEY is not set") as caught:
            asyncio.run(_closing(OpenAIEmbedding(settings, Surroundings(VirtualClock(), {}))))
        assert "export OPENAI_API_KEY" in caught.value.problems[0].remedy
    named = ModelSettings("openai/text-embedding-3-small", api_key_env="MY_KEY")
    with pytest.raises(KeyMissing, match="MY_KEY holds characters"):
        asyncio.run(_closing(OpenAIEmbedding(named, Surroundings(VirtualClock(), {"MY_KEY": "käse"}))))


async def _closing(model: OpenAIEmbedding, texts: Sequence[str] = TEXTS) -> None:
    try:
        await model.embed(texts, "query")
    finally:
        await model.close()


def test_one_address_has_one_identity() -> None:
    around = Surroundings(VirtualClock(), {})
    for url, plain in {
        "HTTP://Box:80/v1/": "http://box/v1",
        "http://user:secret@box:8080/v1": "http://box:8080/v1",
        "https://api.openai.com/v1/": "",
        "http://[::1]:8080": "http://[::1]:8080",
    }.items():
        assert OpenAIEmbedding(ModelSettings("openai/toy", url), around).identity.base_url == plain
    for wrong in (
        "box:8080",
        "ftp://box",
        "http://",
        "http://box:port",
        "http://a box",
        "http://box/v1\0",
        "http://box/v1?key=x",
    ):
        with pytest.raises(SettingsError, match="base_url"):
            OpenAIEmbedding(ModelSettings("openai/toy", wrong), around)


def test_limits_are_the_providers_own_smaller_for_others_and_a_quarter_second_of_a_known_budget() -> None:
    around = Surroundings(VirtualClock(), {})
    own = OpenAIEmbedding(ModelSettings("openai/text-embedding-3-small"), around).limits
    assert (own.texts, own.tokens, own.tokens_per_text) == (2048, 300_000, 8192)
    other = OpenAIEmbedding(ModelSettings("openai/x", "http://box/v1"), around).limits
    assert (other.texts, other.tokens, other.tokens_per_text) == (256, 65_536, 8192)
    slow = OpenAIEmbedding(ModelSettings("openai/text-embedding-3-small", tokens_per_minute=100_000), around).limits
    assert (slow.tokens, slow.first_tokens) == (1_666, 256)
    for model, asked in {"openai/text-embedding-3-small": 2000, "openai/text-embedding-ada-002": 512}.items():
        with pytest.raises(SettingsError, match="no vectors of"):
            OpenAIEmbedding(ModelSettings(model, dimensions=asked), around)


def test_one_vector_for_two_texts_is_believed_when_it_comes_again(served: Served) -> None:
    def one_for_both(asked: Asked) -> Answer:
        return reply(asked, [{**item, "embedding": items(asked)[0]["embedding"]} for item in items(asked)])

    served.script = [one_for_both]
    assert right(Run(served).embed(TEXTS[:2]), TEXTS[:2]), "a server that had hung"
    assert len(served.asked) == 2
    served.always, served.asked = one_for_both, []
    assert np.array_equal(Run(served).embed(["to be", "be to"]).vectors, [vector("to be")] * 2), "a bag of words"
    assert len(served.asked) == 2
    assert len(Run(served).embed(["to be", "To  Be"]).vectors) == 2
    assert len(served.asked) == 3


def test_a_redirect_is_not_followed_so_that_no_text_goes_to_another_server(served: Served) -> None:
    elsewhere = {"location": served.url.replace("/v1", "/elsewhere/embeddings")}
    served.always = Answer(307, b"", elsewhere)
    with pytest.raises(ProviderFailed, match="307"):
        Run(served).embed()
    assert len(served.asked) == 1
