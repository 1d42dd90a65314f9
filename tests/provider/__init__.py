"""A provider on loopback: OpenAI's and Anthropic's API over real HTTP, with limits, faults, batches, and a bill.

It imports nothing of rag, eval or flows. In reading order:

    options, simulator      what it is told, how it is started and asked
    rules, limiter, least   how a limit is held, several limits of one model, the least possible time
    faults, placement       what goes wrong, and where
    app, log                from a request to its reply; what was asked and billed
    embeddings, chat, messages, work, embedded, vectors, tokens, headers, errors    the answers and refusals
    files, batches, lines   the Batch API
    http, delivery          the wire
    routes, control         which part answers which address; /sim

    with provider.running(provider.Options(rule="bucket1", tpm=1_000_000)) as sim:
        client = openai.AsyncOpenAI(base_url=sim.url, api_key=sim.key)
"""

from tests.provider.options import KEY, Options
from tests.provider.simulator import Simulator, running, threaded

__all__ = ["KEY", "Options", "Simulator", "running", "threaded"]
