"""Logs of traces that are full, fail, are downloaded or deleted: they disturb nobody, and no line is torn."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import trio
from actors.flows import end_of, settle
from actors.test_traces import core_of, live_now, said
from api.live import Live, running
from api.test_trace import in_directory, log_of, make, rows

from trio_broker.actors import trace_log
from trio_broker.actors.trace_lines import line_of
from trio_broker.actors.trace_record import NewTrace, TraceRefused, settled
from trio_broker.actors.traces import Traces
from trio_broker.broker import Broker
from trio_broker.store.memory import MemoryStore


async def test_lines_that_come_too_fast_are_counted(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_log, "MOST_WAITING", 600)
    async with running() as live:
        await make(live, type="topic", topic="t")
        c1 = await live.connect("c1")
        await c1.send_bytes(b"\x30\x05\x00\x01t\x00x" * 50)
        await c1.ping()
        await settle()
        await live.broker.publish("t", b"later")
        lines = await log_of(live)
        written = sum("payload: x" in line for line in lines)
        assert 0 < written < 50
        assert f"[API] lines_left_out, lines: {50 - written}" in said(lines)
        assert said(lines)[-1].endswith("later")


async def test_a_log_that_is_full_ends_its_trace(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_log, "LARGEST", 1000)
    async with running() as live:
        await make(live, type="topic", topic="t")
        await make(live, "t2", type="topic", topic="#")
        for number in range(20):
            await live.broker.publish("t" if number % 2 else "u", b"%d" % number)
            await settle()
        assert {row["name"]: row["status"] for row in await rows(live)} == {"t1": "stopped", "t2": "stopped"}
        lines = await log_of(live)
        assert said(lines)[-1] == "[API] trace_stopping, reason: log_full"
        assert sum(map(len, lines)) < 1200
        assert core_of(live).tracing.active is False


async def test_a_disk_that_fails_ends_the_trace_and_nothing_else(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as live:
        await make(live, type="topic", topic="t")

        def fail(self: object, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(trace_log.TraceLog, "write", fail)
        c1 = await live.connect("c1")
        await c1.publish("t", b"x", qos=1)
        await settle()
        assert (await rows(live))[0]["status"] == "stopped"
        await c1.ping()
        monkeypatch.undo()
    assert "trace t1 ends: its log cannot be written: [Errno 28] No space left on device" in caplog.text


async def test_a_fault_in_a_trace_is_nobody_elses(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as live:
        await make(live, clientid="c1")
        monkeypatch.setattr("trio_broker.actors.trace.line_of", lambda *_: 1 / 0)
        c1 = await live.connect("c1")
        await c1.ping()
        monkeypatch.undo()
        assert "an event of trace t1 cannot be written" in caplog.text
        caplog.clear()
        await c1.ping()
        assert len(await log_of(live)) == 2


async def test_a_wall_clock_that_is_set_is_followed(autojump_clock: object) -> None:
    async with running() as live:
        core = core_of(live)
        await make(live, clientid="c1", start_at=live_now(live) + 1000)
        core.clock._offset += 1000
        core.clock_was_set()
        await settle()
        assert (await rows(live))[0]["status"] == "running"
        assert core.tracing.active
        core.clock._offset += 600
        core.clock_was_set()
        await settle()
        assert (await rows(live))[0]["status"] == "stopped"
        assert not core.tracing.active


async def test_on_a_real_clock_logs_are_written_by_a_thread(tmp_path: Any) -> None:
    with trio.fail_after(30):
        async with running(in_directory(tmp_path)) as live:
            await make(live, type="topic", topic="t")
            for number in range(200):
                await live.broker.publish("t", b"%d" % number)
            lines = await log_of(live)
            assert [line.rpartition(" ")[2] for line in lines] == [str(number) for number in range(200)]
        last = (tmp_path / "trace" / "t1.log").read_text().splitlines()
        assert last[:200] == lines


async def test_a_faulty_client_is_traced_to_its_end(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, clientid="c1")
        c1 = await live.connect("c1")
        await c1.send_bytes(b"\xc0\x00\x36\x01x")
        await end_of(c1)
        found = said(await log_of(live))
        assert [line.split("(")[0] for line in found[4:]] == [
            "[MQTT] mqtt_packet_received, packet: PINGREQ",
            "[MQTT] bad_packet_received, reason_code: 0x81, reason: PUBLISH must not have flags 0110",
            "[MQTT] mqtt_packet_sent, packet: PINGRESP",
            "[MQTT] mqtt_packet_sent, packet: DISCONNECT",
            "[SOCKET] connection_terminated, reason_code: 0x81, reason: PUBLISH must not have flags 0110",
            "[SESSION] session_terminated",
        ]


async def test_what_is_left_out_is_not_even_written_down(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_log, "MOST_WAITING", 600)
    written_down = 0

    def count(*arguments: Any) -> bytes:
        nonlocal written_down
        written_down += 1
        return line_of(*arguments)

    monkeypatch.setattr("trio_broker.actors.trace.line_of", count)
    async with running() as live:
        await make(live, type="topic", topic="t")
        c1 = await live.connect("c1")
        await c1.send_bytes(b"\x30\x05\x00\x01t\x00x" * 5000)
        await c1.ping()
        await settle()
        counted = said(await log_of(live))[-1]
        assert counted.startswith("[API] lines_left_out, lines: 49")
        assert written_down < 50


async def test_a_download_does_not_hold_up_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing takes long; what happens meanwhile is written, and is in no part of what is packed."""
    packs, may_pack = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    zipped = trace_log.zipped

    def slow(*arguments: Any) -> bytes:
        token.run_sync_soon(packs.set)
        may_pack.wait(30)
        return zipped(*arguments)

    monkeypatch.setattr("trio_broker.actors.traces.zipped", slow)
    downloads: list[bytes] = []

    async def download(live: Live) -> None:
        downloads.append((await live.api.get("/trace/t1/download")).content)

    with trio.fail_after(60):
        async with running() as live:
            await make(live, type="topic", topic="t")
            await live.broker.publish("t", b"before")
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(download, live)
                    await packs.wait()
                    await live.broker.publish("t", b"after")
                    with trio.fail_after(10):
                        assert [line.rpartition(" ")[2] for line in await log_of(live)] == ["before", "after"]
                    assert (await live.api.delete("/trace/t1")).status_code == 204
                    may_pack.set()
            finally:
                may_pack.set()
    with zipfile.ZipFile(io.BytesIO(downloads[0])) as archive:
        [text] = [archive.read(name).decode() for name in archive.namelist()]
    assert text.count("\n") == 1
    assert text.endswith("before\n")


async def test_the_end_waits_for_the_disk_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a broker is a part of another program, its end does not hold up the others."""
    removed: list[bool] = []
    rmtree = shutil.rmtree

    def remove(*arguments: Any) -> None:
        removed.append(threading.current_thread() is threading.main_thread())
        rmtree(*arguments)

    monkeypatch.setattr("trio_broker.actors.traces.shutil.rmtree", remove)
    with trio.fail_after(30):
        async with running() as live:
            await make(live)
    assert removed == [False]


async def test_threads_of_others_are_not_waited_for() -> None:
    """The embedding program may keep all threads of Trio's own limiter busy."""
    limiter = trio.to_thread.current_default_thread_limiter()
    holders = [object() for _ in range(int(limiter.total_tokens))]
    for holder in holders:
        limiter.acquire_on_behalf_of_nowait(holder)
    try:
        with trio.fail_after(30):
            async with running() as live:
                await make(live)
                assert await log_of(live) == []
    finally:
        for holder in holders:
            limiter.release_on_behalf_of(holder)


async def test_a_deletion_that_was_begun_is_finished(autojump_clock: object) -> None:
    async with running() as live:
        await make(live)
        traces = core_of(live).traces
        [path] = traces._directory.iterdir()
        async with trio.open_nursery() as nursery:
            async with traces._writing:
                nursery.start_soon(traces.delete, "t1")
                await settle()
                nursery.cancel_scope.cancel()
        assert not path.exists()


async def test_nobody_makes_a_trace_before_those_in_the_store_are_there(
    autojump_clock: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    async with running(in_directory(tmp_path), store) as live:
        await make(live)
    begun, may_go_on = trio.Event(), trio.Event()
    find = Traces._path

    async def wait(self: Traces, name: str) -> Path:
        begun.set()
        await may_go_on.wait()
        return await find(self, name)

    monkeypatch.setattr(Traces, "_path", wait)
    refusals: list[str] = []

    async def make_another(broker: Broker) -> None:
        try:
            await broker.questions.traces.create(NewTrace("t1", "clientid", "other"))
        except TraceRefused as refused:
            refusals.append(refused.code)

    broker = Broker(in_directory(tmp_path), store=store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.run)
        await begun.wait()
        nursery.start_soon(make_another, broker)
        await settle()
        may_go_on.set()
        await settle()
        broker.close()
    assert refusals == ["ALREADY_EXISTS"]


def test_a_name_of_a_megabyte_is_refused() -> None:
    with pytest.raises(TraceRefused, match="Name should be"):
        settled(NewTrace("a" * 1_000_000 + "!", "clientid", "c1"), 1)
