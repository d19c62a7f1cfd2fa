"""What the tests of access rules have in common: a rule, a table of rules, and what a client may do as MQTT shows it.

Invariant: nothing here looks at the broker but through MQTT and REST.
"""

from __future__ import annotations

from typing import Any

import trio
from api.live import Live
from review.contract import done, got

from trio_broker.protocol.packets import PubAck, PubComp, Publish, PubRec
from trio_broker.testing import Client

SOURCES = "/authorization/sources"
TABLE = f"{SOURCES}/built_in_database"
RULES = f"{TABLE}/rules"
SETTINGS = "/authorization/settings"
CACHE: dict[str, Any] = {"enable": True, "max_size": 32, "ttl": "1m", "excludes": []}

NOT_AUTHORIZED = 0x87
FAILURE = {3: 0x80, 4: 0x80, 5: NOT_AUTHORIZED}
WITNESS = "witness"


def rule(topic: str, permission: str = "deny", action: str = "all", **more: Any) -> dict[str, Any]:
    return {"topic": topic, "permission": permission, "action": action, **more}


def allow(topic: str, action: str = "all", **more: Any) -> dict[str, Any]:
    return rule(topic, "allow", action, **more)


def shown(**fields: Any) -> dict[str, Any]:
    """How a rule is shown that was given with these fields."""
    return {"qos": [0, 1, 2], "retain": "all", **fields}


async def settings(live: Live, no_match: str = "allow", deny_action: str = "ignore", **cache: Any) -> None:
    body = {"no_match": no_match, "deny_action": deny_action, "cache": CACHE | cache}
    answer = await live.api.put(SETTINGS, json=body)
    assert (answer.status_code, answer.json()) == (200, body), answer.text


async def add_source(live: Live, type_: str, **fields: Any) -> None:
    done(await live.api.post(SOURCES, json={"type": type_, **fields}))


async def add_file(live: Live, *lines: str) -> None:
    await add_source(live, "file", rules="\n".join(lines))


async def for_all(live: Live, *rules: dict[str, Any]) -> None:
    done(await live.api.post(f"{RULES}/all", json={"rules": rules}))


async def for_user(live: Live, name: str, *rules: dict[str, Any]) -> None:
    done(await live.api.put(f"{RULES}/users/{name}", json={"username": name, "rules": rules}))


async def for_client(live: Live, name: str, *rules: dict[str, Any]) -> None:
    done(await live.api.put(f"{RULES}/clients/{name}", json={"clientid": name, "rules": rules}))


async def guarded(live: Live, *rules: dict[str, Any], no_match: str = "allow") -> None:
    """A table with these rules for all; the user `witness` may do everything."""
    await add_source(live, "built_in_database")
    await for_user(live, WITNESS, allow("#"), allow("$SYS/#"))
    await for_all(live, *rules)
    await settings(live, no_match)


async def may_subscribe(client: Client, topic_filter: str, qos: int = 1) -> bool:
    """What SUBACK says; a refusal has to have the code of its protocol level."""
    [code] = (await client.subscribe(topic_filter, qos)).reason_codes
    assert code in (0, 1, 2, FAILURE[client.level]), hex(code)
    return code <= 2


async def may_publish(client: Client, topic: str, qos: int = 1, retain: bool = False) -> bool:
    """What PUBACK or PUBREC says to a client of MQTT 5.0."""
    answer = await client.publish(topic, b"?", qos, retain)
    assert isinstance(answer, PubAck if qos == 1 else PubRec | PubComp), answer
    assert answer.reason_code in (0, 0x10, NOT_AUTHORIZED), answer
    return answer.reason_code != NOT_AUTHORIZED


async def arrived(client: Client) -> list[tuple[str, bytes]]:
    """Topics and payloads of the messages that came until nothing happens any more (on a mock clock)."""
    await trio.sleep(1)
    found = [(packet.topic_name, packet.payload) for packet in client.inbox if isinstance(packet, Publish)]
    while any(isinstance(packet, Publish) for packet in client.inbox):
        await client.receive()
    return found


async def cached(live: Live, client_id: str) -> dict[str, str]:
    """Topic -> result of what is kept for a client."""
    rows = await got(live, f"/clients/{client_id}/authorization/cache")
    return {row["topic"]: row["result"] for row in rows}
