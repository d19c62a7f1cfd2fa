"""The figures for Prometheus under the names of EMQX 4, compared with `/metrics` and `/stats` of the same broker."""

from __future__ import annotations

import re

import pytest
from actors.flows import settle
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.model import PrometheusConfig


def words(text: str) -> list[str]:
    return text.split()


NODE = "trio_broker@127.0.0.1"
PARTS = {"stats", "metrics", "packets", "messages", "delivery", "client", "session"}
VM = {
    f"emqx_vm_{name}"
    for name in words("cpu_use cpu_idle run_queue process_messages_in_queues total_memory used_memory")
}
OLD_NAMES = words(
    """
    emqx_packets_connect emqx_messages_dropped_expired emqx_messages_retained emqx_client_auth_anonymous
    emqx_client_check_acl emqx_session_takeovered emqx_routes_count emqx_routes_max emqx_connections_count
    """
)


async def traffic(live: Live) -> None:
    client = await live.connect("c1")
    await client.subscribe("t/#", 1)
    await client.publish("t/1", b"x", 1, retain=True)
    gone = await live.connect("c2")
    await gone.disconnect()
    await settle()


@shows("GET /api/v4/emqx_prometheus")
async def test_json_has_the_figures_of_metrics_and_stats(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await traffic(live)
        answer = await v4.get("/emqx_prometheus")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        found = answer.json()
        assert set(found) == PARTS
        assert (await v4.get("/emqx_prometheus?type=json")).json()["packets"] == found["packets"]
        counters = (await v4.get(f"/nodes/{NODE}/metrics")).json()["data"]
        figures = {**found["packets"], **found["messages"], **found["delivery"], **found["client"], **found["session"]}
        for name, value in counters.items():
            if name.startswith(("rules.", "actions.")) or name.endswith(".ignore"):
                continue
            shown = {
                "packets.connect.received": "emqx_packets_connect",
                "messages.dropped.await_pubrel_timeout": "emqx_messages_dropped_expired",
            }.get(name, f"emqx_{name.replace('.', '_')}")
            assert figures.pop(shown, value) == value, name
        assert figures == {}
        gauges = (await v4.get(f"/nodes/{NODE}/stats")).json()["data"]
        assert found["stats"] == {
            f"emqx_{name.replace('.', '_')}": value
            for name, value in gauges.items()
            if not name.startswith("resources.")
        }
        assert set(found["metrics"]) >= VM
        assert found["metrics"]["emqx_vm_total_memory"] > found["metrics"]["emqx_vm_used_memory"] > 0
        assert found["packets"]["emqx_packets_connect"] == 2
        assert found["messages"]["emqx_messages_retained"] == 1


@shows("GET /api/v4/emqx_prometheus")
async def test_text_has_the_same_figures(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await traffic(live)
        answer = await v4.get("/emqx_prometheus?type=prometheus", auth=None)
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
        samples = {name: float(value) for name, value in re.findall(r"(?m)^([a-z]\w*) (\S+)$", answer.text)}
        types = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", answer.text))
        assert set(samples) == set(types)
        found = (await v4.get("/emqx_prometheus", auth=None)).json()
        for part, figures in found.items():
            for name, value in figures.items():
                assert types[name] == ("gauge" if part in ("stats", "metrics") else "counter"), name
                if part != "metrics":
                    assert samples[name] == value, name
        assert set(OLD_NAMES) <= set(samples)
        assert samples["emqx_cluster_nodes_running"] == 1


@shows("GET /api/v4/emqx_prometheus")
async def test_credentials_are_needed_where_that_is_set(autojump_clock: MockClock) -> None:
    config = Config(prometheus=PrometheusConfig(enable_basic_auth=True))
    async with running(config) as live, older(live, "v4") as v4:
        assert (await v4.get("/emqx_prometheus", auth=None)).status_code == 401
        assert (await v4.get("/emqx_prometheus", auth=("admin-key", "wrong"))).status_code == 401
        assert (await v4.get("/emqx_prometheus", auth=live.as_viewer())).status_code == 200
        assert (await v4.get("/emqx_prometheus")).status_code == 200


@shows("GET /api/v4/emqx_prometheus")
@pytest.mark.parametrize("form", ["xml", ""])
async def test_other_forms(autojump_clock: MockClock, form: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.get(f"/emqx_prometheus?type={form}")
        assert (answer.status_code, answer.json()["code"]) == (200, 108)
