"""A small OpenAI-compatible server on loopback that does what it is told to, rightly or wrongly, and counts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

Asked = dict[str, Any]
WIDTH = 8


@dataclass
class Answer:
    """One reply. `cut` sends half of the body and closes; `hang` sends nothing until the client gives up.

    `after` follows the body again and again, `pause` seconds apart, until the client gives up.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False
    after: bytes = b""
    pause: float = 0.0


Script = Answer | Callable[[Asked], Answer]


@dataclass
class Served:
    """What was asked so far, and what is answered next: the script first, right replies after."""

    url: str
    script: list[Script] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    always: Script | None = None
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


def vector(text: str) -> NDArray[np.float32]:
    """The right vector of a text, float32 [8]."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


def items(asked: Asked) -> list[dict[str, Any]]:
    """The right data of a reply to this request."""
    as_list = asked.get("encoding_format") == "float"
    return [
        {
            "object": "embedding",
            "index": index,
            "embedding": vector(text).tolist() if as_list else packed(vector(text)),
        }
        for index, text in enumerate(asked["input"])
    ]


def packed(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def reply(asked: Asked, data: list[dict[str, Any]] | None = None, **more: Any) -> Answer:
    """A reply of 200 with this data, by default the right one."""
    tokens = sum(len(text.split()) for text in asked.get("input", []))
    body = {
        "object": "list",
        "data": items(asked) if data is None else data,
        "model": asked.get("model"),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        **more,
    }
    return Answer(200, json.dumps(body).encode(), {"content-type": "application/json"})


def refusal(status: int, message: str = "no", headers: dict[str, str] | None = None, **error: Any) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "error", **error}}).encode()
    return Answer(status, body, {"content-type": "application/json", **(headers or {})})


@contextlib.contextmanager
def serving() -> Iterator[Served]:
    """The server, up for the block; its address ends in /v1."""
    served = Served("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with served.lock:
                served.asked.append(asked)
                served.headers.append({name.lower(): value for name, value in self.headers.items()})
                script = served.script.pop(0) if served.script else served.always or reply
            answer = script if isinstance(script, Answer) else script(asked)
            if answer.hang:
                served.released.wait(30)
                self.close_connection = True
                return
            with contextlib.suppress(OSError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if not answer.after:
                    self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
                while answer.after and not served.released.wait(answer.pause):
                    self.wfile.write(answer.after)
            if answer.cut or answer.after:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
