"""A web service on a loopback port, for the tests of the contract of authentication.

Invariant: it does what its fields say at the time of the request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field

JSON = "application/json"


@define
class Service:
    """Answers everything with one answer, and keeps what it was asked: method, target, headers, body."""

    port: int = 0
    status: int = 204
    body: bytes = b""
    content_type: str = JSON
    silent: bool = False
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(factory=list)

    def says(self, value: Any, content_type: str = JSON, status: int = 200) -> None:
        self.body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.content_type, self.status = content_type, status

    async def serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            size = int(headers.get("content-length", 0))
            while len(data) < size:
                data += await stream.receive_some()
            method, target, _ = first.split(" ")
            self.asked.append((method, target, headers, data[:size]))
            data = data[size:]
            if self.silent:
                await trio.sleep_forever()
            answer = f"HTTP/1.1 {self.status} X\r\n"
            if self.status == 204:
                await stream.send_all(f"{answer}\r\n".encode())
                continue
            answer += f"Content-Length: {len(self.body)}\r\nContent-Type: {self.content_type}\r\n\r\n"
            await stream.send_all(answer.encode() + self.body)


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    web = Service()
    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        web.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, web.serve, [listener])
        yield web
        nursery.cancel_scope.cancel()
