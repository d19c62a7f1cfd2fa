"""The built-in rules in a data backup: out of one broker, into another."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.actors.authz.backup import read_rules
from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig
from trio_broker.config.model import NodeConfig
from trio_broker.protocol.packets import PubAck

RULES = "/authorization/sources/built_in_database/rules"
ITEM = {"topic": "t/#", "permission": "deny", "action": "all", "qos": [0, 1, 2], "retain": "all"}
OTHER = {**ITEM, "topic": "eq x", "qos": [1], "retain": True, "ipaddr": "10.0.0.0/8"}


def config(folder: Path, *sources: Any) -> Config:
    return Config(node=NodeConfig(data_dir=str(folder)), authorization=AuthorizationConfig(sources=sources))


async def shown(live: Live) -> list[Any]:
    return [(await live.api.get(f"{RULES}/{path}")).json() for path in ("users", "clients", "all")]


async def test_rules_come_back_and_are_in_force(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(config(tmp_path / "a", BuiltInSourceConfig())) as live:
        await live.api.put(f"{RULES}/users/u1", json={"username": "u1", "rules": [ITEM, OTHER]})
        await live.api.put(f"{RULES}/clients/c1", json={"clientid": "c1", "rules": []})
        await live.api.post(f"{RULES}/all", json={"rules": [OTHER]})
        before = await shown(live)
        name = (await live.api.post("/data/export", json={"table_sets": ["builtin_authz"]})).json()["filename"]
        content = (await live.api.get(f"/data/files/{name}")).content
    async with running(config(tmp_path / "b", BuiltInSourceConfig())) as live:
        client = await live.connect("c9", username="u1")
        await live.api.put(f"{RULES}/users/u1", json={"username": "u1", "rules": []})
        await live.api.put(f"{RULES}/users/u2", json={"username": "u2", "rules": [ITEM]})
        await client.publish("t/1", b"x", 1)
        await live.api.post("/data/files", files={"filename": (name, content)})
        assert (await live.api.post("/data/import", json={"filename": name})).status_code == 204
        answer = await client.publish("t/1", b"x", 1)
        assert isinstance(answer, PubAck)
        assert answer.reason_code == 0x87
        assert (await live.api.delete(f"{RULES}/users/u2")).status_code == 204  # what was there beside them stays
        assert await shown(live) == before


async def test_rules_wait_for_their_source(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(config(tmp_path)) as live:
        rows = [{"type": "username", "who": "u1", "rules": [ITEM]}, {"type": "all", "who": "all", "rules": [OTHER]}]
        await live.api.post("/data/files", files={"filename": ("a.tar.gz", await archive(live, rows))})
        assert (await live.api.post("/data/import", json={"filename": "a.tar.gz"})).status_code == 204
        assert (await live.api.get(f"{RULES}/all")).status_code == 404
        await live.api.post("/authorization/sources", json={"type": "built_in_database"})
        assert (await live.api.get(f"{RULES}/all")).json() == {"rules": [OTHER]}
        assert (await live.api.get(f"{RULES}/users/u1")).json() == {"username": "u1", "rules": [ITEM]}


async def archive(live: Live, rows: list[Any]) -> bytes:
    """One of this broker's own, with other rules in it."""
    name = (await live.api.post("/data/export", json={"table_sets": ["builtin_authz"]})).json()["filename"]
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO((await live.api.get(f"/data/files/{name}")).content)) as old,
        tarfile.open(fileobj=made, mode="w:gz") as new,
    ):
        for member in old.getmembers():
            file = old.extractfile(member)
            content = b"" if file is None else file.read()
            if member.name.endswith("builtin_authz.jsonl"):
                content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "peerhost"}, "Invalid enum value 'peerhost'"),
        ({"type": "all"}, "the rules for all are of 'all', not of 'u1'"),
        ({"who": ""}, "Expected `str` of length >= 1"),
        ({"rules": [{**ITEM, "topic": "#/a"}]}, "rule 1: topic: '#/a': # must be a level of its own"),
        ({"rules": [{**ITEM, "ipaddr": "x"}]}, "rule 1: ipaddr: 'x' is no address"),
        ({"rules": None}, "Expected `array`, got `null`"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_rows_that_are_none_are_refused(change: dict[str, Any], message: str) -> None:
    row = {"type": "username", "who": "u1", "rules": [ITEM], **change}
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        read_rules(json.dumps(row).encode())
