"""For tests: one request over a bare socket, and the very bytes that came back."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from tests.provider.simulator import Simulator

MODEL = "text-embedding-3-small"


@dataclass
class Came:
    """What came back until the server stopped, or `quiet` seconds passed without a byte."""

    raw: bytes
    ended: str
    """`closed`, `reset`, or `quiet`."""

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    def json(self) -> Any:
        return json.loads(self.body)


def connected(sim: Simulator, quiet: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sim.port), timeout=quiet)


def post(path: str, body: object, key: str, *, keep: bool = False) -> bytes:
    content = json.dumps(body).encode()
    ends = "keep-alive" if keep else "close"
    head = f"POST {path} HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer {key}\r\nconnection: {ends}\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def ask(sim: Simulator, body: object, path: str = "/v1/embeddings", key: str = "", quiet: float = 20.0) -> Came:
    with connected(sim, quiet) as line:
        line.sendall(post(path, body, key or sim.key))
        raw = b""
        try:
            while block := line.recv(1 << 16):
                raw += block
        except ConnectionResetError:
            return Came(raw, "reset")
        except TimeoutError:
            return Came(raw, "quiet")
        return Came(raw, "closed")


def embed(sim: Simulator, *texts: str, **more: object) -> Came:
    return ask(sim, {"model": MODEL, "input": list(texts), **more})
