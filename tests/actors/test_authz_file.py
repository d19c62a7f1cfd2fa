"""The source `file`: where its rules come from, and what is said about those that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from api.live import Live, running
from trio.testing import MockClock

from trio_broker.access.acl_file import LONGEST
from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig, FileSourceConfig
from trio_broker.errors import ConfigError
from trio_broker.store.memory import MemoryStore

SOURCES = "/authorization/sources"
TEXT = '%% for all\n{deny, all, publish, ["t/#"]}.\n'


def config(*sources: Any) -> Config:
    return Config(authorization=AuthorizationConfig(sources=sources))


async def may_publish(live: Live, topic: str, client_id: str = "c1") -> bool:
    client = await live.connect(client_id)
    answer = await client.publish(topic, b"x", 1)
    assert answer is not None
    return answer.reason_code < 0x80


async def test_rules_may_stand_in_the_configuration(autojump_clock: MockClock) -> None:
    async with running(config(FileSourceConfig(rules=TEXT))) as live:
        assert not await may_publish(live, "t/1")
        assert await may_publish(live, "x")
        shown = (await live.api.get(f"{SOURCES}/file")).json()
        assert shown == {"type": "file", "enable": True, "rules": TEXT}


async def test_rules_may_stand_in_a_file(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "acl.conf"
    path.write_text(TEXT, encoding="utf-8")
    async with running(config(FileSourceConfig(path=str(path)))) as live:
        assert not await may_publish(live, "t/1")
        shown = (await live.api.get(f"{SOURCES}/file")).json()
        assert shown["rules"] == TEXT
        path.write_text('{deny, all, publish, ["x"]}.', encoding="utf-8")
        assert not await may_publish(live, "t/1")  # it is not looked at again until somebody says so
        for enable in (False, True):
            again = {"type": "file", "path": str(path), "enable": enable}
            assert (await live.api.put(f"{SOURCES}/file", json=again)).status_code == 204
        assert await may_publish(live, "t/1")
        assert not await may_publish(live, "x")


async def test_what_is_shown_of_a_file_can_be_sent_back(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "acl.conf"
    path.write_text(TEXT, encoding="utf-8")
    async with running(config(FileSourceConfig(path=str(path)))) as live:
        shown = (await live.api.get(f"{SOURCES}/file")).json()
        assert (await live.api.put(f"{SOURCES}/file", json=shown)).status_code == 204
        assert not await may_publish(live, "t/1")
        changed = await live.api.put(f"{SOURCES}/file", json={**shown, "rules": "{deny, all}."})
        assert changed.status_code == 204
        assert not await may_publish(live, "x")
    assert path.read_text(encoding="utf-8") == TEXT  # which is somebody else's


@pytest.mark.parametrize("enable", [True, False])
async def test_a_file_is_read_again_when_its_source_is_set_again(
    autojump_clock: MockClock, tmp_path: Path, enable: bool
) -> None:
    path = tmp_path / "acl.conf"
    path.write_text(TEXT, encoding="utf-8")
    body = {"type": "file", "path": str(path), "enable": enable}
    async with running(config(FileSourceConfig(path=str(path), enable=enable))) as live:
        path.write_text("{deny, all}.", encoding="utf-8")
        assert (await live.api.put(f"{SOURCES}/file", json=body)).status_code == 204
        assert await may_publish(live, "x") is not enable
        path.unlink()
        refused = await live.api.put(f"{SOURCES}/file", json=body)
        assert (refused.status_code, refused.json()["code"]) == (400, "BAD_REQUEST")
        assert (await live.api.get(f"{SOURCES}/file")).json()["rules"] == "{deny, all}."
        assert await may_publish(live, "x") is not enable


async def test_sources_are_asked_in_their_order(autojump_clock: MockClock) -> None:
    sources = [BuiltInSourceConfig(), FileSourceConfig(rules=TEXT)]
    allow = [{"topic": "t/${clientid}", "permission": "allow", "action": "all"}]
    async with running(config(*sources)) as live:
        await live.api.post(f"{SOURCES}/built_in_database/rules/all", json={"rules": allow})
        assert await may_publish(live, "t/c1")
        assert not await may_publish(live, "t/c2")
        await live.api.post(f"{SOURCES}/file/move", json={"position": "front"})
        assert not await may_publish(live, "t/c1")


async def test_new_rules_are_in_force_at_once_and_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert await may_publish(live, "t/1")
        assert (await live.api.post(SOURCES, json={"type": "file", "rules": TEXT})).status_code == 204
        assert not await may_publish(live, "t/1")
        assert (
            await live.api.put(f"{SOURCES}/file", json={"type": "file", "rules": "{deny, all}."})
        ).status_code == 204
        assert not await may_publish(live, "x")
    async with running(store=store) as live:
        assert not await may_publish(live, "x")
        assert not await may_publish(live, "$SYS/x")


async def test_rules_that_are_wrong_are_refused_and_the_others_stay(autojump_clock: MockClock) -> None:
    async with running(config(FileSourceConfig(rules=TEXT))) as live:
        wrong = await live.api.put(f"{SOURCES}/file", json={"type": "file", "rules": f"{TEXT}{{allow, nobody}}."})
        assert wrong.status_code == 400
        assert "rules, line 3: nobody is none of all" in wrong.json()["message"]
        assert not await may_publish(live, "t/1")
        assert (await live.api.get(f"{SOURCES}/file")).json()["rules"] == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"{allow, all}.\n{deny, some}.", "line 2: some is none of all"),
        (b"{allow, all}.\xff", "byte 13 is no UTF-8"),
        (b" " * (LONGEST + 1), f"line 1: longer than {LONGEST} characters"),
    ],
)
async def test_the_broker_does_not_start_with_a_file_that_is_wrong(
    autojump_clock: MockClock, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "acl.conf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        await Broker(config(FileSourceConfig(path=str(path)))).run()
    assert str(raised.value).startswith(f"authorization.sources: {path}")
    assert message in str(raised.value)


async def test_a_disabled_source_is_not_asked_but_is_read(autojump_clock: MockClock) -> None:
    async with running(config(FileSourceConfig(rules="{deny, all}.", enable=False))) as live:
        assert await may_publish(live, "t")
        wrong = await live.api.put(f"{SOURCES}/file", json={"type": "file", "enable": False, "rules": "{"})
        assert wrong.status_code == 400
