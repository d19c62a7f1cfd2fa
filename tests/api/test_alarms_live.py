"""Alarms over a broker: who is told, what is remembered and for how long, and the alarms about the machine."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from actors.flows import rest
from api.live import Live, running
from api.operations import shows

from trio_broker.actors import system_watch
from trio_broker.actors.system_watch import Times, cpu_times, memory_used
from trio_broker.store.memory import MemoryStore

NODE = "trio_broker@127.0.0.1"
TOPICS = f"$SYS/brokers/{NODE}/alarms/#"


def alarms_of(live: Live) -> Any:
    assert live.broker._core is not None
    return live.broker._core.alarms


async def names(live: Live, query: str = "") -> list[str]:
    return [alarm["name"] for alarm in (await live.api.get(f"/alarms{query}")).json()["data"]]


async def change(live: Live, **settings: Any) -> None:
    answer = await live.api.put("/configs/alarm", json=settings)
    assert answer.status_code == 200, answer.text


@shows("GET /alarms")
async def test_an_alarm_is_published_as_it_is_shown(autojump_clock: object) -> None:
    async with running() as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe(TOPICS)
        alarms_of(live).activate("x", "It is wrong", {"why": 1})
        alarms_of(live).activate("x", "It is wrong", {"why": 2})  # is active already
        (begun,) = await rest(watcher)
        assert begun.topic_name == f"$SYS/brokers/{NODE}/alarms/activate"
        (shown,) = (await live.api.get("/alarms")).json()["data"]
        assert json.loads(begun.payload) == shown | {"details": {"why": 1}}
        await trio.sleep(5)
        alarms_of(live).deactivate("x")
        (ended,) = await rest(watcher)
        assert ended.topic_name == f"$SYS/brokers/{NODE}/alarms/deactivate"
        (shown,) = (await live.api.get("/alarms?activated=false")).json()["data"]
        assert json.loads(ended.payload) == shown
        assert (shown["duration"], shown["details"]) == (5000, {"why": 2})


@shows("PUT /configs/alarm")
async def test_the_actions_can_be_chosen(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    for actions in (["log"], ["publish"], [], ["log", "publish"]):
        async with running(store=store) as live:
            await change(live, actions=actions)
        async with running(store=store) as live:
            watcher = await live.connect("watcher")
            await watcher.subscribe(TOPICS)
            caplog.clear()
            alarms_of(live).activate("x", "It is wrong", {})
            alarms_of(live).deactivate("x")
            lines = [record.getMessage() for record in caplog.records if record.name == "trio_broker.alarms"]
            logged = ["alarm x is active: It is wrong", "alarm x is over: It is wrong"]
            assert lines == (logged if "log" in actions else [])
            assert len(await rest(watcher)) == (2 if "publish" in actions else 0)


@shows("GET /alarms", "DELETE /alarms")
async def test_the_past_is_there_after_a_restart_and_the_present_is_not(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        for name in ("a", "b", "now"):
            alarms_of(live).activate(name, f"message of {name}", {"name": name})
            await trio.sleep(1)
        alarms_of(live).deactivate("a")
        alarms_of(live).deactivate("b")
        past = (await live.api.get("/alarms?activated=false")).json()
        assert await names(live) == ["now"]
    async with running(store=store) as live:
        assert (await live.api.get("/alarms?activated=false")).json() == past
        assert await names(live) == []
        alarms_of(live).activate("c", "", {})
        alarms_of(live).deactivate("c")
        assert await names(live, "?activated=false") == ["c", "b", "a"]
        assert (await live.api.delete("/alarms")).status_code == 204
    async with running(store=store) as live:
        assert await names(live, "?activated=false") == []


async def test_a_past_that_nobody_can_read_is_left_out(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        alarms_of(live).activate("a", "", {})
        alarms_of(live).deactivate("a")
        documents = live.broker._core.documents  # type: ignore[union-attr]
        [good] = documents.of("alarm").values()
        for key, body in {"1-1": {}, "x": good, "2-1": [1], "3-1": {**good, "deactivate_at": "now"}}.items():
            documents.put("alarm", key, body)
    async with running(store=store) as live:
        assert await names(live, "?activated=false") == ["a"]
        assert caplog.text.count("is left out") == 4


@shows("PUT /configs/alarm")
async def test_the_past_is_bounded(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        for number in range(5):
            alarms_of(live).activate(f"a{number}", "", {})
            alarms_of(live).deactivate(f"a{number}")
            await trio.sleep(60)
        await change(live, size_limit=3)
        assert await names(live, "?activated=false") == ["a4", "a3", "a2"]
        await change(live, size_limit=3, validity_period="90s")
        assert await names(live, "?activated=false") == ["a4"]
    async with running(store=store) as live:
        assert await names(live, "?activated=false") == ["a4"]
        alarms_of(live).activate("b", "", {})
        alarms_of(live).deactivate("b")
        await trio.sleep(1000)  # the wall clock of a new broker knows nothing of the mock clock's time
        assert await names(live, "?activated=false") == []
    async with running(store=store) as live:
        await change(live)
        assert await names(live, "?activated=false") == []


@shows("POST /alarms/force_deactivate")
async def test_an_alarm_can_be_ended(autojump_clock: object) -> None:
    async with running() as live:
        alarms_of(live).activate("x", "", {})
        assert (await live.api.post("/alarms/force_deactivate", json={"name": "x"})).status_code == 204
        assert (await names(live), await names(live, "?activated=false")) == ([], ["x"])
        for body, code, word in (
            ({"name": "x"}, "NOT_FOUND", "x"),
            ({}, "INVALID_PARAMETER", "name is required"),
            ({"name": ""}, "INVALID_PARAMETER", "name is required"),
            ({"name": 1}, "BAD_REQUEST", "root.name"),
            ({"name": "x", "node": "y"}, "BAD_REQUEST", "unknown_fields"),
        ):
            answer = await live.api.post("/alarms/force_deactivate", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, code)
            assert word in answer.json()["message"]
        answer = await live.api.post("/alarms/force_deactivate", json={"name": "x"}, auth=live.as_viewer())
        assert answer.status_code == 403


# -- the machine ------------------------------------------------------------------------------------------------


class Machine:
    """What a made-up system says of itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.memory: float | None = 0.1
        self.idle = self.total = 0
        self.silent = False
        defaults = {"memory": lambda: self.memory, "cpu": self.cpu}
        monkeypatch.setattr(system_watch.SystemWatch.__init__, "__kwdefaults__", defaults)

    def cpu(self) -> Times | None:
        return None if self.silent else Times(self.idle, self.total)

    def work(self, busy: int, idle: int) -> None:
        self.total += busy + idle
        self.idle += idle


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@shows("PUT /configs/sysmon", "GET /alarms")
async def test_memory_of_the_machine(machine: Machine, autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        machine.memory = 0.9
        await trio.sleep(300)
        assert await names(live) == []  # nobody looks
        body = {"os": {"mem_check_interval": "10s", "sysmem_high_watermark": "80%"}}
        await live.api.put("/configs/sysmon", json=body)
        await trio.sleep(11)
        (alarm,) = (await live.api.get("/alarms")).json()["data"]
        assert (alarm["name"], alarm["message"]) == (
            "high_system_memory_usage",
            "System memory usage is higher than 80%",
        )
        assert alarm["details"] == {"high_watermark": 80.0, "usage": 90.0}
        machine.memory = 0.7
        await trio.sleep(11)
        assert await names(live) == []
        machine.memory = 0.9
        await trio.sleep(11)
        assert await names(live) == ["high_system_memory_usage"]
        await live.api.put(
            "/configs/sysmon", json={"os": {"mem_check_interval": "10s", "sysmem_high_watermark": "disabled"}}
        )
        assert await names(live) == []
        await live.api.put("/configs/sysmon", json=body)
    async with running(store=store) as live:
        await trio.sleep(11)
        assert await names(live) == ["high_system_memory_usage"]


@shows("PUT /configs/sysmon", "GET /alarms")
async def test_processors_of_the_machine(machine: Machine, autojump_clock: object) -> None:
    async with running() as live:
        os = {"cpu_check_interval": "10s", "cpu_high_watermark": "80%", "cpu_low_watermark": "40%"}
        await live.api.put("/configs/sysmon", json={"os": os})
        for busy, there in ((50, False), (90, True), (60, True), (30, False), (85, True)):
            machine.work(busy, 100 - busy)
            await trio.sleep(10.5)
            assert await names(live) == ["high_cpu_usage"] * there
        (alarm,) = (await live.api.get("/alarms")).json()["data"]
        assert alarm["message"] == "85.00% cpu usage"
        assert alarm["details"] == {"usage": "85.00%", "high_watermark": "80%", "low_watermark": "40%"}
        await live.api.put("/configs/sysmon", json={})
        assert await names(live) == []


async def test_a_machine_that_says_nothing(
    machine: Machine, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    machine.memory, machine.silent = None, True
    async with running() as live:
        await live.api.put("/configs/sysmon", json={"os": {"mem_check_interval": "10s", "cpu_check_interval": "10s"}})
        await trio.sleep(100)
        assert await names(live) == []
    told = [record.getMessage() for record in caplog.records if "not watched" in record.getMessage()]
    assert len(told) == 2  # once each


def test_this_machine_says_what_it_does() -> None:
    used, times = memory_used(), cpu_times()
    if Path("/proc/stat").exists():
        assert used is not None
        assert 0 < used < 1.5
        assert times is not None
        assert 0 < times.idle < times.total


def test_a_group_with_a_limit_counts_for_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1000000 kB\nMemFree: 1 kB\nMemAvailable: 250000 kB\n")
    monkeypatch.setattr(system_watch, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(system_watch, "_GROUP", tmp_path)
    assert memory_used() == 0.75
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_used() == 0.75
    (tmp_path / "memory.max").write_text("102400000\n")
    (tmp_path / "memory.current").write_text("61440000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 10240000\n")
    assert memory_used() == 0.5
    (tmp_path / "meminfo").write_text("nothing\n")
    assert memory_used() is None
    monkeypatch.setattr(system_watch, "_STAT", tmp_path / "meminfo")
    assert cpu_times() is None
