"""The REST contract, read afresh: what Prometheus scrapes, compared with what the counters and gauges say."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.live import ADMIN, Live, running
from api.operations import shows
from prometheus_client.parser import text_string_to_metric_families
from review.contract import COUNTERS, NODE, away, failed, got, post, words
from trio.testing import MockClock

NOT_EXPORTED = {"messages.persisted"} | {
    f"messages.{what}_{how}" for what in ("validation", "transformation") for how in ("failed", "succeeded")
}
RENAMED = {
    "packets.connect.received": "emqx_packets_connect",
    "messages.dropped.await_pubrel_timeout": "emqx_messages_dropped_expired",
}
MODES = ["", "?mode=node", "?mode=all_nodes_aggregated", "?mode=all_nodes_unaggregated"]
PATHS = ["stats", "auth", "data_integration", "schema_validation", "message_transformation"]
SECTIONS = words("stats metrics packets messages delivery client session cluster olp acl authn certs cluster_rpc")
SETTINGS = {
    "enable_basic_auth": False,
    "push_gateway": {
        "enable": False,
        "url": "http://127.0.0.1:9091",
        "interval": "15s",
        "headers": {},
        "job_name": "${name}/instance/${name}~${host}",
    },
    "collectors": {
        "vm_dist": "disabled",
        "mnesia": "disabled",
        "vm_statistics": "disabled",
        "vm_system_info": "disabled",
        "vm_memory": "disabled",
        "vm_msacc": "disabled",
    },
}
VM = words("""
emqx_vm_cpu_use emqx_vm_cpu_idle emqx_vm_run_queue emqx_vm_process_messages_in_queues emqx_vm_total_memory
emqx_vm_used_memory emqx_vm_mnesia_tm_mailbox_size emqx_vm_broker_pool_max_mailbox_size emqx_cluster_nodes_running
emqx_cluster_nodes_stopped emqx_conf_sync_txid emqx_durable_subscriptions_count emqx_durable_subscriptions_max
emqx_delayed_count emqx_delayed_max emqx_mria_last_intercepted_trans emqx_mria_weight emqx_mria_replicants
emqx_mria_server_mql emqx_mria_lag emqx_mria_bootstrap_time emqx_mria_bootstrap_num_keys
emqx_mria_message_queue_len emqx_mria_replayq_len
""")


def exported(name: str) -> str:
    return RENAMED.get(name, "emqx_" + name.replace(".", "_"))


async def scrape(live: Live, path: str = "/prometheus/stats", **headers: str) -> httpx.Response:
    live.api.auth = None  # type: ignore[assignment]
    answer = await live.api.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def families(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def samples(answer: httpx.Response, *labels: dict[str, str]) -> dict[str, float]:
    """Of one series each: those with exactly one of these sets of labels (none, where none is given)."""
    found: dict[str, float] = {}
    for family in families(answer).values():
        for sample in family.samples:
            if sample.labels in (labels or ({},)):
                # The parser shows counters as newer formats spell them.
                name = sample.name.removesuffix("_total") if family.type == "counter" else sample.name
                assert name not in found
                found[name] = sample.value
    return found


async def busy(live: Live) -> None:
    """Something of most kinds has happened."""
    c1 = await live.connect("c1")
    await c1.subscribe("t/#", 2)
    await c1.subscribe("$share/g/t/1", 1)
    for qos in (0, 1, 2):
        await c1.publish("t/1", b"x", qos)
    await post(live, "r", retain=True)
    await away(live, "c2", "q")
    await trio.sleep(3)


@shows("GET /prometheus/stats", "GET /metrics", "GET /stats")
@pytest.mark.parametrize("query", MODES)
async def test_it_says_what_metrics_and_stats_say(query: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await busy(live)
        counters = await got(live, "/metrics?aggregate=true")
        gauges = await got(live, "/stats?aggregate=true")
        answer = await scrape(live, "/prometheus/stats" + query)
        # What is known of the cluster as a whole has no label `node`.
        found = samples(answer, {"node": NODE}, {}) if "unaggregated" in query else samples(answer)
        expected = {exported(name): float(value) for name, value in (counters | gauges).items()}
        for name in NOT_EXPORTED:
            del expected[exported(name)]
        assert {name: found.get(name) for name in expected} == expected
        assert expected["emqx_messages_received"] == 4
        for name in NOT_EXPORTED:
            assert exported(name) not in found
        assert "emqx_packets_connect_received" not in found
        assert "emqx_messages_dropped_await_pubrel_timeout" not in found
        assert found["emqx_messages_retained"] == 0
        assert ('emqx_messages_received{node="' + NODE + '"} 4' in answer.text) == ("unaggregated" in query)


@shows("GET /prometheus/stats")
async def test_names_and_types(autojump_clock: MockClock) -> None:
    async with running() as live:
        await busy(live)
        answer = await scrape(live)
        parsed = families(answer)
        found = samples(answer)
        for name in VM:
            assert name in found, name
            assert f"# TYPE {name} gauge\n" in answer.text, name
        for name in set(COUNTERS) - NOT_EXPORTED:
            assert f"# TYPE {exported(name)} counter\n" in answer.text, name
        for name in await got_gauges(live):
            assert f"# TYPE {exported(name)} gauge\n" in answer.text, name
        assert found["emqx_cluster_nodes_running"] == 1
        assert found["emqx_cluster_nodes_stopped"] == 0
        assert found["emqx_vm_total_memory"] >= found["emqx_vm_used_memory"] > 0
        assert 0 <= found["emqx_vm_cpu_use"] <= 100
        assert all(family.documentation for family in parsed.values())
        lines = [line for line in answer.text.splitlines() if line.startswith("# TYPE ")]
        assert len(lines) == len(set(lines))
        reasons = [s.labels for s in parsed["emqx_client_disconnected_reason"].samples]
        assert {"reason": "normal"} in reasons


async def got_gauges(live: Live) -> Any:
    live.api.auth = httpx.BasicAuth(*ADMIN)
    return await got(live, "/stats?aggregate=true")


@shows("GET /prometheus/stats")
@pytest.mark.parametrize("query", MODES)
async def test_as_json(query: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await busy(live)
        counters = await got(live, "/metrics?aggregate=true")
        gauges = await got(live, "/stats?aggregate=true")
        answer = await scrape(live, "/prometheus/stats" + query, accept="application/json")
        assert answer.headers["content-type"].startswith("application/json")
        told = answer.json()
        assert set(SECTIONS) == told.keys()
        assert isinstance(told["certs"], list)
        for name, section in [
            ("bytes.received", "packets"),
            ("packets.connect.received", "packets"),
            ("messages.received", "messages"),
            ("delivery.dropped", "delivery"),
            ("client.connected", "client"),
            ("session.created", "session"),
            ("overload_protection.gc", "olp"),
            ("client.authorize", "client"),
            ("connections.count", "stats"),
            ("retained.max", "stats"),
        ]:
            part = told[section]
            if "unaggregated" in query:
                (part,) = part
                assert part["node"] == NODE
            assert part[exported(name)] == (counters | gauges)[name], name


@shows("GET /prometheus/stats")
async def test_only_that_header_asks_for_json(autojump_clock: MockClock) -> None:
    async with running() as live:
        for accept in ("*/*", "application/json, */*", "text/plain;version=0.0.4", "application/openmetrics-text"):
            answer = await scrape(live, accept=accept)
            assert answer.headers["content-type"].startswith("text/plain")


@shows(
    "GET /prometheus/stats",
    "GET /prometheus/auth",
    "GET /prometheus/data_integration",
    "GET /prometheus/schema_validation",
    "GET /prometheus/message_transformation",
)
@pytest.mark.parametrize("path", PATHS)
async def test_every_page_can_be_parsed(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        for query in MODES:
            families(await scrape(live, f"/prometheus/{path}{query}"))
            answer = await scrape(live, f"/prometheus/{path}{query}", accept="application/json")
            assert isinstance(answer.json(), dict)
        assert (await live.api.get(f"/prometheus/{path}?mode=some")).status_code == 400


@shows("GET /prometheus/auth", "GET /prometheus/data_integration")
async def test_the_counts_of_what_is_configured(autojump_clock: MockClock) -> None:
    async with running() as live:
        body = {"as": "clientid", "who": "bad"}
        assert (await live.api.post("/banned", json=body)).status_code == 200
        assert samples(await scrape(live, "/prometheus/auth"))["emqx_banned_count"] == 1
        found = samples(await scrape(live, "/prometheus/data_integration"))
        for name in ("rules", "actions", "connectors", "schema_registrys"):
            assert found[f"emqx_{name}_count"] == 0


@shows("GET /prometheus", "PUT /prometheus", "GET /prometheus/stats")
async def test_settings(autojump_clock: MockClock) -> None:
    async with running() as live:
        assert await got(live, "/prometheus") == SETTINGS
        changed = SETTINGS | {"enable_basic_auth": True}
        answer = await live.api.put("/prometheus", json=changed)
        assert (answer.status_code, answer.json()) == (200, changed)
        assert await got(live, "/prometheus") == changed
        for path in PATHS:
            assert (await live.api.get(f"/prometheus/{path}", auth=live.as_viewer())).status_code == 200
        live.api.auth = None  # type: ignore[assignment]
        for path in PATHS:
            answer = await live.api.get(f"/prometheus/{path}")
            failed(answer, 401, "AUTHORIZATION_HEADER_ERROR")
        failed(await live.api.get("/prometheus"), 401, "AUTHORIZATION_HEADER_ERROR")
        answer = await live.api.get("/prometheus/stats", headers={"authorization": "Basic eDp5"})
        failed(answer, 401, "BAD_API_KEY_OR_SECRET")
        live.api.auth = httpx.BasicAuth(*ADMIN)
        await live.api.put("/prometheus", json=SETTINGS)
        await scrape(live)
        live.api.auth = httpx.BasicAuth(*ADMIN)
        for body in ({"enable_basic_auth": "perhaps"}, {"colour": 1}, {"push_gateway": {"interval": "soon"}}):
            assert (await live.api.put("/prometheus", json=body)).status_code == 400
