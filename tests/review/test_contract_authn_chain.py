"""The REST contract, read afresh: who decides in a chain of authenticators, its figures, and who stays connected."""

from __future__ import annotations

import itertools
from typing import Any

from api.live import running
from api.operations import shows
from review.authn import (
    BAD_USER,
    BOTH_BAD,
    BOTH_IN,
    IN,
    JWT,
    NOT_AUTHORIZED,
    PASSWORD_ID,
    PASSWORDS,
    USERS,
    add,
    code,
    codes,
    now,
    path,
    stays,
    token,
    user,
)
from review.contract import NODE, done, got

from trio_broker.config import Config
from trio_broker.config.tree import overlay

HTTP: dict[str, Any] = {
    "mechanism": "password_based",
    "backend": "http",
    "method": "post",
    "url": "http://127.0.0.1:9/",
}
HTTP_ID = "password_based:http"
ZERO = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}


async def test_an_empty_chain_lets_in_whoever_the_settings_let_in() -> None:
    """EMQX lets in everybody; here `mqtt.allow_anonymous` says who, as the page on authentication tells."""
    for anonymous, expected in ((True, IN), (False, NOT_AUTHORIZED)):
        async with running(overlay(Config(), {"mqtt": {"allow_anonymous": anonymous}})) as live:
            assert await codes(live, "u", "p") == (expected, expected)
            await add(live, PASSWORDS)
            assert await codes(live, "u", "p") == BOTH_BAD
            assert await codes(live, None, None) == BOTH_BAD
            done(await live.api.put(path(PASSWORD_ID), json=PASSWORDS | {"enable": False}))
            assert await codes(live, "u", "p") == (expected, expected)
            await add(live, JWT)
            assert await codes(live, "u", "p") == BOTH_BAD
            done(await live.api.delete("/authentication/jwt"))
            done(await live.api.delete(path(PASSWORD_ID)))
            assert await codes(live, "u", "p") == (expected, expected)


ANSWERS = ("accept", "reject", "ignore")


async def test_the_first_who_accepts_or_rejects_decides() -> None:
    """Tokens and the table of users, in both orders, about one and the same user name and password."""
    async with running() as live:
        await add(live, JWT, PASSWORDS)
        for first, second in itertools.product(ANSWERS, ANSWERS):
            for order, by_token, by_table in (
                (["jwt", PASSWORD_ID], first, second),
                ([PASSWORD_ID, "jwt"], second, first),
            ):
                answer = await live.api.put("/authentication/order", json=[{"id": one} for one in order])
                done(answer)
                shown = {
                    "accept": token(sub="u"),
                    "reject": token(sub="u", exp=now() - 100),
                    "ignore": token("x" * 40, sub="u"),
                }[by_token]
                if by_table != "ignore":
                    await user(live, "u", shown if by_table == "accept" else "something else")
                decided = first if first != "ignore" else second
                assert await codes(live, "u", shown) == (BOTH_IN if decided == "accept" else BOTH_BAD)
                await live.api.delete(f"{USERS}/u")


async def test_no_password_is_rejected_by_the_table_of_users() -> None:
    """Up to 5.8 (the baseline) it is a reject and no ignore: who comes behind is not asked."""
    async with running() as live:
        await add(live, PASSWORDS, JWT)
        done(await live.api.put("/authentication/jwt", json=JWT | {"from": "username"}))
        assert await code(live, token(sub="u"), "a password") == IN
        assert await codes(live, token(sub="u"), None) == BOTH_BAD
        done(await live.api.put(path("jwt", "position", "front")))
        assert await codes(live, token(sub="u"), None) == BOTH_IN


@shows("GET /authentication/:id/status")
async def test_status() -> None:
    async with running() as live:
        await add(live, PASSWORDS, JWT)
        await user(live, "u", "p")
        for username, password in (
            ("u", "p"),
            ("u", "p"),
            ("u", "x"),
            ("v", "p"),
            ("v", token(sub="v")),
            ("w", token(exp=1)),
        ):
            await code(live, username, password)
        for one, figures in (
            (PASSWORD_ID, {"total": 6, "success": 2, "failed": 1, "nomatch": 3}),
            ("jwt", {"total": 3, "success": 1, "failed": 1, "nomatch": 1}),
        ):
            status = await got(live, path(one, "status"))
            assert status.keys() == {
                "status", "node_status", "node_error", "metrics", "node_metrics", "resource_metrics",
                "node_resource_metrics",
            }  # fmt: skip
            assert status["status"] == "connected"
            assert status["node_status"] == [{"node": NODE, "status": "connected"}]
            assert status["node_error"] == []
            metrics = status["metrics"]
            assert metrics.keys() == figures.keys() | ZERO.keys()
            assert {key: metrics[key] for key in figures} == figures
            (node_metrics,) = status["node_metrics"]
            assert (node_metrics["node"], node_metrics["metrics"].keys()) == (NODE, metrics.keys())
            assert status["resource_metrics"] == {}
            assert status["node_resource_metrics"] == [{"node": NODE, "metrics": {}}]


async def test_status_of_an_external_service() -> None:
    async with running() as live:
        await add(live, HTTP)
        assert (await got(live, path(HTTP_ID, "status")))["resource_metrics"] == {
            "matched": 0, "success": 0, "failed": 0, **ZERO,
        }  # fmt: skip
        assert await code(live, "u", "p") == BAD_USER  # nobody is there: ignored
        status = await got(live, path(HTTP_ID, "status"))
        assert {key: status["metrics"][key] for key in ("total", "success", "failed", "nomatch")} == {
            "total": 1, "success": 0, "failed": 0, "nomatch": 1,
        }  # fmt: skip
        assert (status["resource_metrics"]["matched"], status["resource_metrics"]["failed"]) == (1, 1)


async def test_who_is_connected_stays_and_who_comes_anew_is_asked() -> None:
    async with running() as live:
        await add(live, PASSWORDS, JWT)
        await user(live, "u", "p")
        for method, body in (
            ("PUT", PASSWORDS | {"enable": False}),
            ("PUT", PASSWORDS),
            ("PUT", PASSWORDS | {"user_id_type": "clientid"}),
            ("PUT", PASSWORDS),
            ("DELETE", None),
        ):
            connected = [
                await live.connect(f"here{level}", username="u", password=b"p", level=level) for level in (4, 5)
            ]
            before = [client.connack.reason_code for client in connected]
            done(await live.api.request(method, path(PASSWORD_ID), json=body))
            row = next((one for one in await got(live, "/authentication") if one["id"] == PASSWORD_ID), None)
            asked = row is not None and row["enable"] and row["user_id_type"] == "username"
            assert await codes(live, "u", "p") == (BOTH_IN if asked else BOTH_BAD)
            for client, reason_code in zip(connected, before, strict=True):
                if reason_code == IN:
                    await stays(client)
