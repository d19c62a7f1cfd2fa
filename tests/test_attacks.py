"""The table of attacks, and two that belong to no part alone."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
from api.live import running

from trio_broker import Broker
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.config import Config, NodeConfig
from trio_broker.listeners.memory import memory_pair
from trio_broker.store.memory import MemoryStore

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "attacks.md"
ROWS = [
    line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "| tests |" not in line
]


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_each_attack_has_its_tests(row: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row.rpartition(" | ")[2])
    assert named
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(ROOT / path)]
    assert missing == []


CONNECTS = {
    "3.1.1": b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c",
    "3.1.1 with a password": b"\x10\x17\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x05admin\x00\x01x",
    "5.0": b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c",
}


@pytest.mark.parametrize("connect", CONNECTS.values(), ids=CONNECTS)
@pytest.mark.parametrize("peer_host", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1"])
async def test_a_fresh_start_lets_nobody_in_from_outside(
    autojump_clock: object, connect: bytes, peer_host: str
) -> None:
    service = Config.service()
    binds: list[Any] = [listener.bind for kind in service.listeners.values() for listener in kind.values()]
    assert service.http is not None
    assert {bind.rpartition(":")[0] for bind in [*binds, service.http.bind]} == {"127.0.0.1"}
    # Had somebody opened a port, and nothing else:
    bare = Config(authentication=service.authentication, authorization=service.authorization, mqtt=service.mqtt)
    async with trio.open_nursery() as nursery:
        broker = Broker(bare, store=MemoryStore())
        await nursery.start(broker.run)
        client, server = memory_pair()
        assert broker._door is not None
        nursery.start_soon(broker._door.serve_stream, server, ConnectionInfo("tcp:open", peer_host))
        await client.send_all(connect)
        answer = b""
        with trio.fail_after(30):
            while chunk := await client.receive_some():
                answer += chunk
        assert answer[0] == 0x20
        assert answer[3] in (4, 5, 0x86, 0x87)
        broker.close()


NAMES = [
    "..",
    "../x",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2fsecret.tar.gz",
    "a/../../b.tar.gz",
    "/etc/passwd",
    "x\0.tar.gz",
]


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_files_lead_nowhere_else(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.tar.gz"
    secret.write_bytes(b"secret")
    data = tmp_path / "data"
    config = Config(node=NodeConfig(data_dir=str(data)))
    async with running(config, MemoryStore()) as live:
        api = live.api
        before = sorted(path for path in tmp_path.rglob("*") if data not in path.parents)
        answers = [
            await api.get(f"/data/files/{_quoted(name)}"),
            await api.delete(f"/data/files/{_quoted(name)}"),
            await api.post("/data/import", json={"filename": name}),
            await api.post("/data/files", files={"filename": (name.replace("\0", ""), b"x")}),
            await api.get(f"/trace/{_quoted(name)}/log"),
            await api.get(f"/trace/{_quoted(name)}/download"),
            await api.post("/trace", json={"name": name, "type": "clientid", "clientid": "c"}),
        ]
        assert all(400 <= answer.status_code < 500 for answer in answers), [answer.status_code for answer in answers]
        assert b"secret" not in b"".join(answer.content for answer in answers if answer.status_code == 200)
        assert sorted(path for path in tmp_path.rglob("*") if data not in path.parents) == before
        assert secret.read_bytes() == b"secret"


def _quoted(name: str) -> str:
    return quote(name, safe="%")
