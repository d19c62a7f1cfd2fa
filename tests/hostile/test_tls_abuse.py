"""TLS peers that misbehave: garbage, renegotiation, handshakes without an end, connections closed by halves.

Python's ssl cannot ask for a renegotiation, so the openssl program does, where it is installed: its `R` sends a new
ClientHello within a TLS 1.2 connection, and the broker refuses it (OP_NO_RENEGOTIATION). TLS 1.3 has none; what comes
nearest there, a key update, is OpenSSL's own affair and cannot be asked for from here either.

Invariant: each ends alone, and no handshake keeps another from its own.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from contextlib import suppress

import pytest
import trio
from hostile.conftest import Sites
from hostile.site import frames
from listeners.certificates import Certificates
from robustness.scene import PATIENCE, WILL, connect_bytes, reset, shake_hands
from trio.testing import MockClock

from trio_broker.listeners.tls_context import build_context
from trio_broker.protocol.packets import Publish

OPENSSL = shutil.which("openssl")
DOORS = pytest.mark.parametrize("door", ["ssl", "wss"])

GARBAGE = {
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "MQTT": connect_bytes("bad"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
    "a record too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "an empty record": b"\x16\x03\x01\x00\x00",
    "a hello that lies about its length": b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x03",
    "a hello cut short": b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03" + bytes(39),
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application data": b"\x17\x03\x03\x00\x05hello",
    "change cipher spec": b"\x14\x03\x03\x00\x01\x01",
}
BEGINNINGS = (b"", b"\x16", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x02\x00\x01\0\1\xfc")


async def to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    """What comes until the end, however it comes."""
    said = bytearray()
    with trio.fail_after(PATIENCE):
        try:
            while piece := await stream.receive_some(65536):
                said += piece
        except trio.BrokenResourceError:
            return bytes(said)
    return bytes(said)


@DOORS
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_in_place_of_a_handshake(garbage: str, door: str, site: Sites) -> None:
    """A TLS alert at the most, the end, and one line in the log."""
    async with site(door) as it, await it.raw(door) as stream:
        await it.scene.mark()
        with suppress(trio.BrokenResourceError):  # it may have heard enough
            await stream.send_all(GARBAGE[garbage])
            await stream.send_eof()
        said = await to_the_end(stream)
        assert said == b"" or said[0] == 0x15
        await it.unhurt()
        assert "TLS handshake" in it.scene.one_line()


@DOORS
async def test_garbage_within_tls(door: str, site: Sites) -> None:
    """The handshake is done, then a record that nobody has encrypted."""
    async with site(door) as it:
        raw = await it.raw(door)
        await it.secured(raw).do_handshake()
        await raw.send_all(b"\x17\x03\x03\x00\x40" + bytes(64))
        await to_the_end(raw)
        await raw.aclose()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_half_closed_by_close_notify(version: ssl.TLSVersion, site: Sites) -> None:
    """The peer says close_notify and does not wait: what it sent before is heard, then its will goes out."""
    async with site("ssl") as it:
        raw = await it.raw("ssl")
        context = it.certificates.client_context()
        context.minimum_version = context.maximum_version = version
        tls = trio.SSLStream(raw, context, server_hostname="127.0.0.1", https_compatible=True)
        await shake_hands(tls, "bad", will=WILL)
        await tls.send_all(frames(Publish("will", b"before")))
        await tls.aclose()
        assert await it.scene.will() == b"before"
        assert await it.scene.will() == b"gone"


@DOORS
@pytest.mark.parametrize("how", ["shutdown", "close", "reset"])
@pytest.mark.parametrize("after", ["nothing", "hello", "handshake"])
async def test_left_without_close_notify(how: str, after: str, door: str, site: Sites) -> None:
    async with site(door) as it:
        raw = await it.raw(door)
        if after == "hello":
            await raw.send_all(b"\x16\x03\x01\x02\x00\x01")
        elif after == "handshake":
            await it.secured(raw).do_handshake()
        if how == "shutdown":
            await raw.send_eof()
            await to_the_end(raw)
            await raw.aclose()
        elif how == "close":
            await raw.aclose()
        else:
            await reset(raw)
        await it.unhurt()


@pytest.mark.parametrize("how", ["shutdown", "reset"])
async def test_the_sending_side_shut_within_mqtt(how: str, site: Sites) -> None:
    """A client that is connected and shuts TCP below TLS: its end is noticed, its will goes out."""
    async with site("ssl") as it:
        raw = await it.raw("ssl")
        tls = it.secured(raw)
        await shake_hands(tls, "bad", will=WILL)
        await (raw.send_eof() if how == "shutdown" else reset(raw))
        assert await it.scene.will() == b"gone"
        await trio.aclose_forcefully(raw)


@DOORS
async def test_handshakes_that_never_end_hinder_nobody(door: str, site: Sites, autojump_clock: MockClock) -> None:
    """Two hundred of them, in all stages; who comes meanwhile is let in at once; after 15 seconds they are gone."""
    async with site(door) as it:
        streams = [await it.raw(door) for _ in range(200)]
        start = trio.current_time()
        for number, stream in enumerate(streams):
            await stream.send_all(
                (b"", b"\x16", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x02\x00\x01\0\1\xfc")[number % 4]
            )
        await it.round_trips()
        async with await it.open(door) as newcomer:
            assert (await shake_hands(newcomer, "newcomer")).reason_code == 0
        assert trio.current_time() - start < 15
        for stream in streams:
            await to_the_end_patiently(stream)
            await stream.aclose()
        assert 15 <= trio.current_time() - start <= 17
        await it.unhurt()


async def to_the_end_patiently(stream: trio.abc.ReceiveStream) -> None:
    with trio.fail_after(60):
        try:
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            return


def test_renegotiation_is_switched_off(certificates: Certificates) -> None:
    context = build_context("ssl:default", certificates.options, alpn="mqtt")
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.skipif(OPENSSL is None, reason="there is no openssl program")
async def test_a_renegotiation_is_refused(site: Sites) -> None:
    """The client is told `no renegotiation`, and gives up; others do not notice."""
    assert OPENSSL is not None
    async with site("ssl") as it:
        host, port = it.scene.running.listeners["ssl:default"]
        command = [OPENSSL, "s_client", "-connect", f"{host}:{port}", "-tls1_2"]
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(_run, command)
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send_all(connect_bytes("bad", 4, keep_alive=0, will=WILL))
            said = await _read_until(process.stdout, b"\x20\x02\0\0")
            assert b"Secure Renegotiation IS supported" in said
            await it.round_trips()
            await process.stdin.send_all(b"R\n")
            assert b"RENEGOTIATING" in await _read_until(process.stdout, b"RENEGOTIATING") + said
            await it.round_trips()
            process.kill()
        assert await it.scene.will() == b"gone"


async def _run(command: list[str], *, task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        task_status=task_status,
    )


async def _read_until(stream: trio.abc.ReceiveStream, wanted: bytes) -> bytes:
    said = bytearray()
    with trio.fail_after(PATIENCE):
        while wanted not in said:
            piece = await stream.receive_some(65536)
            assert piece, bytes(said)
            said += piece
    return bytes(said)
