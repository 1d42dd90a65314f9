"""A re-index in a process of its own, to be killed: every text that is sent is a line in a log before it is answered."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rag.errors import RaglineError
from rag.ports import Embedded
from rag.types import Role

from .conftest import CountingModel, House


class LoggingModel(CountingModel):
    def __init__(self, log: Path) -> None:
        super().__init__(texts=4)
        self._log = log

    async def embed(self, texts: Sequence[str], role: Role) -> Embedded:
        handle = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, "".join(json.dumps(text) + "\n" for text in texts).encode())
        os.close(handle)
        return await super().embed(texts, role)


def main() -> int:
    root, store, log = map(Path, sys.argv[1:4])
    house = House.__new__(House)
    terms = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    house.corpus, house.store, house.sets, house.terms = root / "corpus", store, [], terms
    house.model = LoggingModel(log)
    try:
        outcome = house.index()
    except RaglineError as error:
        for line in (error.message, *(f"{problem.where}: {problem.remedy}" for problem in error.problems)):
            sys.stderr.write(line + "\n")
        return error.exit_code
    sys.stdout.write(f"{outcome.reason} {outcome.version}\n")
    return outcome.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
