"""A provider on loopback: OpenAI's and Anthropic's API over real HTTP, with limits, faults, batches, and a bill.

It imports nothing of rag, eval or flows. In reading order: `options` (what it is told), `simulator` (how it is started
and asked), `rules` (how a limit is held), `limiter` (several limits of one model), `least` (the least possible time),
`faults` and `placement` (what goes wrong, and where), `app` (from a request to its reply), `embeddings`, `chat`,
`messages`, `batches` (the answers), `log` (what was asked and billed), `http` and `delivery` (the wire), `routes`,
`control` (/sim).

    with provider.running(provider.Options(rule="bucket1", tpm=1_000_000)) as sim:
        client = openai.AsyncOpenAI(base_url=sim.url, api_key=sim.key)
"""

from tests.provider.options import KEY, Options
from tests.provider.simulator import Simulator, running, threaded

__all__ = ["KEY", "Options", "Simulator", "running", "threaded"]
