"""`/prometheus`: names, types and values as dashboards for EMQX look for them; who may scrape; the Pushgateway."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio
import trustme
from api.fake_questions import FakeQuestions
from api.live import running
from api.operations import shows
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors.questions import ListenerInfo
from trio_broker.api.prometheus_certificates import not_after
from trio_broker.api.prometheus_families import Family, exposition
from trio_broker.api.rates import CpuUse
from trio_broker.api.v5.prometheus_others import ACTION, auth, data_integration
from trio_broker.config import Config
from trio_broker.session.meter import METRIC_NAMES
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_broker


def words(text: str) -> list[str]:
    return text.split()


NODE = Config().node.name
SCRAPED = ("stats", "auth", "data_integration", "schema_validation", "message_transformation")
AS_JSON = {"Accept": "application/json"}

GAUGES = {
    f"emqx_{name}_{what}"
    for name in words(
        "connections live_connections channels sessions cluster_sessions topics subscriptions subscriptions_shared"
        " subscribers suboptions retained delayed durable_subscriptions"
    )
    for what in ("count", "max")
} | set(
    words(
        "emqx_vm_cpu_use emqx_vm_cpu_idle emqx_vm_run_queue emqx_vm_process_messages_in_queues emqx_vm_total_memory"
        " emqx_vm_used_memory emqx_vm_mnesia_tm_mailbox_size emqx_vm_broker_pool_max_mailbox_size"
        " emqx_cluster_nodes_running emqx_cluster_nodes_stopped emqx_cert_expiry_at emqx_conf_sync_txid"
        " emqx_mria_last_intercepted_trans emqx_mria_weight emqx_mria_replicants emqx_mria_server_mql emqx_mria_lag"
        " emqx_mria_bootstrap_time emqx_mria_bootstrap_num_keys emqx_mria_message_queue_len emqx_mria_replayq_len"
    )
)
NOT_EXPORTED = words(
    "messages.persisted messages.validation_failed messages.validation_succeeded messages.transformation_failed"
    " messages.transformation_succeeded packets.connect.received messages.dropped.await_pubrel_timeout"
)
COUNTERS = {f"emqx_{name.replace('.', '_')}" for name in METRIC_NAMES if name not in NOT_EXPORTED} | {
    "emqx_packets_connect",
    "emqx_messages_dropped_expired",
    "emqx_messages_retained",
    "emqx_client_disconnected_reason",
    "trio_broker_connections_refused",
}
AUTH = {
    *(f"emqx_authn_{name}" for name in words("enable status total success failed nomatch users_count")),
    *(f"emqx_authz_{name}" for name in words("enable status total allow deny nomatch rules_count")),
    "emqx_banned_count",
}
RULE = words(
    "enable matched passed failed failed_exception failed_no_result actions_total actions_success actions_failed"
    " actions_failed_out_of_service actions_failed_unknown actions_discarded"
)
DATA_INTEGRATION = {
    *(f"emqx_{name}_count" for name in words("rules actions connectors schema_registrys")),
    *(f"emqx_rule_{name}" for name in RULE),
    *(f"emqx_action_{name}" for name in ACTION),
    *(f"emqx_connector_{name}" for name in ("enable", "status")),
}


def types(text: str) -> dict[str, str]:
    """The type of each name, as the text says it."""
    return dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))


def samples(text: str) -> dict[str, float]:
    """The samples without labels, by their names as they stand there."""
    return {name: float(value) for name, value in re.findall(r"(?m)^([a-z]\w*) (\S+)$", text)}


def test_the_action_figures_are_those_of_the_contract() -> None:
    assert set(ACTION) == set(
        words(
            "enable status matched dropped success failed inflight queuing received retried retried_success"
            " retried_failed late_reply dropped_other dropped_expired dropped_queue_full dropped_resource_not_found"
            " dropped_resource_stopped"
        )
    )


@shows("GET /prometheus/stats")
async def test_every_name_is_there_with_its_type(autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.get("/prometheus/stats", auth=None)
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
        found = types(answer.text)
        assert {name for name, kind in found.items() if kind == "counter"} == COUNTERS
        assert {name for name, kind in found.items() if kind == "gauge"} == GAUGES
        # What has labels has no sample until there is something to label.
        assert set(samples(answer.text)) == (COUNTERS | GAUGES) - {
            "emqx_client_disconnected_reason",
            "emqx_cert_expiry_at",
        }
        assert answer.text.count("# HELP ") == len(found)


@shows("GET /prometheus/stats")
async def test_the_values_are_those_of_metrics_and_stats(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t/#", 1)
        for _ in range(3):
            await client.publish("t", b"x", 1)
        gone = await live.connect("c2")
        await gone.disconnect()
        await wait_all_tasks_blocked()
        text = (await live.api.get("/prometheus/stats")).text
        counters, gauges = (await live.api.get("/metrics?aggregate=true")).json(), (await live.api.get("/stats")).json()
        found = samples(text)
        for name in METRIC_NAMES:
            if name not in NOT_EXPORTED:
                assert found[f"emqx_{name.replace('.', '_')}"] == counters[name], name
        assert found["emqx_packets_connect"] == counters["packets.connect.received"] == 2
        assert found["emqx_messages_received"] == 3
        del gauges[0]["node"]
        assert {name: found[f"emqx_{name.replace('.', '_')}"] for name in gauges[0]} == gauges[0]
        assert found["emqx_vm_total_memory"] > found["emqx_vm_used_memory"] > 0
        assert found["emqx_vm_cpu_use"] + found["emqx_vm_cpu_idle"] == pytest.approx(100)
        assert found["emqx_cluster_nodes_running"] == 1
        assert 'emqx_client_disconnected_reason{reason="normal"} 1.0' in text.splitlines()


@shows("GET /prometheus/stats", "DELETE /clients/:clientid")
async def test_why_connections_ended(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("taken")
        await live.connect("taken")
        await live.connect("kicked")
        await live.api.delete("/clients/kicked")
        (await live.connect("lost")).stream.close()  # type: ignore[attr-defined]
        await wait_all_tasks_blocked()
        text = (await live.api.get("/prometheus/stats?mode=all_nodes_unaggregated")).text
        found = dict(re.findall(r'emqx_client_disconnected_reason{node="[^"]+",reason="(\w+)"} (\S+)', text))
        assert found == {"takenover": "1.0", "kicked": "1.0", "tcp_closed": "1.0"}


@shows("GET /prometheus/stats")
async def test_modes(autojump_clock: MockClock) -> None:
    async with running() as live:
        plain = samples((await live.api.get("/prometheus/stats?mode=node")).text)
        together = samples((await live.api.get("/prometheus/stats?mode=all_nodes_aggregated")).text)
        assert set(plain) == set(together)
        by_node = (await live.api.get("/prometheus/stats?mode=all_nodes_unaggregated")).text
        assert set(re.findall(r'(?m)^(\w+){node="trio_broker@127\.0\.0\.1"}', by_node)) == set(plain) - set(
            samples(by_node)
        )
        # What is the same on every node belongs to none.
        assert {name.removesuffix("_count").removesuffix("_max") for name in samples(by_node)} == {
            "emqx_topics",
            "emqx_retained",
            "emqx_subscriptions_shared",
        }
        answer = await live.api.get("/prometheus/stats?mode=some")
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /prometheus/stats")
async def test_json(autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.get("/prometheus/stats", headers=AS_JSON)
        assert answer.headers["content-type"] == "application/json"
        shown: dict[str, Any] = answer.json()
        parts = words("stats metrics packets messages delivery client session cluster olp acl authn certs cluster_rpc")
        assert sorted(shown) == sorted(parts)
        assert shown["certs"] == []
        assert shown["cluster"] == {"emqx_cluster_nodes_running": 1, "emqx_cluster_nodes_stopped": 0}
        assert shown["packets"]["emqx_packets_connect"] == 0
        assert "emqx_bytes_sent" in shown["packets"]
        assert "emqx_vm_run_queue" in shown["metrics"]
        names = {name for part in parts if part != "certs" for name in shown[part]}
        only_text = {"emqx_client_disconnected_reason", "emqx_cert_expiry_at", "trio_broker_connections_refused"}
        assert names == {name for name in COUNTERS | GAUGES if "_mria_" not in name} - only_text
        query = "/prometheus/stats?mode=all_nodes_unaggregated"
        by_node = (await live.api.get(query, headers=AS_JSON)).json()
        assert [row["node"] for row in by_node["packets"]] == [NODE]
        assert by_node["stats"][0]["emqx_sessions_count"] == 0
        # Only exactly this asks for JSON.
        for accept in ("application/json, */*", "*/*", "text/plain", "application/json;q=1"):
            answer = await live.api.get("/prometheus/stats", headers={"Accept": accept})
            assert answer.headers["content-type"].startswith("text/plain")


@shows(
    "GET /prometheus/auth",
    "GET /prometheus/data_integration",
    "GET /prometheus/schema_validation",
    "GET /prometheus/message_transformation",
)
@pytest.mark.parametrize(
    ("path", "names", "document"),
    [
        ("auth", AUTH, {"emqx_authn": [], "emqx_authz": [], "emqx_banned": {"emqx_banned_count": 0}}),
        (
            "data_integration",
            DATA_INTEGRATION,
            {
                "data_integration_overview": {
                    "emqx_rules_count": 0,
                    "emqx_actions_count": 0,
                    "emqx_connectors_count": 0,
                    "emqx_schema_registrys_count": 0,
                },
                "rules": [],
                "actions": [],
                "connectors": [],
            },
        ),
        (
            "schema_validation",
            {f"emqx_schema_validation_{name}" for name in ("enable", "matched", "failed", "succeeded")},
            {"schema_validations": []},
        ),
        (
            "message_transformation",
            {f"emqx_message_transformation_{name}" for name in ("enable", "matched", "failed", "succeeded")},
            {"message_transformations": []},
        ),
    ],
)
async def test_what_there_is_nothing_of(
    autojump_clock: MockClock, path: str, names: set[str], document: dict[str, Any]
) -> None:
    async with running() as live:
        for mode in ("node", "all_nodes_aggregated", "all_nodes_unaggregated"):
            answer = await live.api.get(f"/prometheus/{path}?mode={mode}", auth=None)
            assert (answer.status_code, set(types(answer.text))) == (200, names)
            answer = await live.api.get(f"/prometheus/{path}?mode={mode}", headers=AS_JSON)
            assert answer.json() == document
        assert (await live.api.get(f"/prometheus/{path}?mode=some")).status_code == 400


@shows("GET /prometheus/auth")
async def test_bans_are_counted(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.api.post("/banned", json={"as": "clientid", "who": "c1"})
        assert samples((await live.api.get("/prometheus/auth")).text) == {"emqx_banned_count": 1}


def test_rows_have_labels() -> None:
    rows = {"password_based:built_in_database": {"enable": 1, "users_count": 3}}
    groups = auth({"node": "n"}, authn=rows, banned=2)
    assert exposition(groups["emqx_authn"]).splitlines()[2] == (
        'emqx_authn_enable{id="password_based:built_in_database",node="n"} 1.0'
    )
    assert groups["emqx_banned"][0].samples == [({}, 2)]
    overview = data_integration({}, rules={"r1": {"matched": 4}}, schemas=5)
    assert [family.samples[0][1] for family in overview["data_integration_overview"]] == [1, 0, 0, 5]
    assert 'emqx_rule_matched{id="r1"} 4.0' in exposition(overview["rules"])


def test_names_go_out_as_they_are() -> None:
    """Also those that end in `_total` by themselves."""
    families = [
        Family("a", "counter", "one\nline", [({}, 1)]),
        Family("b_total", "counter", "b", [({"q": 'a"b\\c'}, 2)]),
        Family("c_total", "gauge", "c", []),
    ]
    text = exposition(families)
    assert types(text) == {"a": "counter", "b_total": "counter", "c_total": "gauge"}
    assert text.splitlines()[:3] == ["# HELP a one\\nline", "# TYPE a counter", "a 1.0"]
    assert 'b_total{q="a\\"b\\\\c"} 2.0' in text
    assert len(list(text_string_to_metric_families(text))) == 3


# -- over a socket --------------------------------------------------------------------------------------------------


@shows("GET /prometheus/stats", "GET /prometheus/auth", "GET /prometheus/data_integration")
async def test_prometheus_reads_it() -> None:
    """The library's own parser, as Prometheus scrapes: over a socket, without credentials."""
    with trio.fail_after(30):
        async with open_broker(dashboard={"listeners": {"http": {"bind": "127.0.0.1:0"}}}) as broker:
            assert broker.api is not None
            host, port = broker.api
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}/api/v5/prometheus") as client:
                accept = {
                    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                }
                answer = await client.get("/stats", headers=accept)
                found = {family.name: family for family in text_string_to_metric_families(answer.text)}
                assert set(found) == COUNTERS | GAUGES
                assert {name for name, family in found.items() if family.type == "counter"} == COUNTERS
                assert found["emqx_cluster_nodes_running"].samples[0].value == 1
                for path in SCRAPED[1:]:
                    answer = await client.get(f"/{path}", headers=accept)
                    assert list(text_string_to_metric_families(answer.text))


# -- certificates and the machine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [2030, 2077])
def test_when_a_certificate_expires(year: int) -> None:
    """Up to 2049 with two digits of the year, then with four."""
    end = datetime(year, 5, 6, 7, 8, 9, tzinfo=UTC)
    certificate = trustme.CA().issue_cert("localhost", not_after=end)
    pem = b"".join(part.bytes() for part in certificate.cert_chain_pems).decode()
    assert not_after(f"Bag Attributes: none\n{pem}") == int(end.timestamp())


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "no certificate",
        *(
            f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----"
            for text in ("AAAA", "MAA=", "MIIB", "MAMCAQE=", "!", "MA4wDAIBATAAMAAwAwIBAQ==")
        ),
    ],
)
def test_what_is_no_certificate(pem: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        not_after(pem)


@shows("GET /prometheus/stats")
async def test_certificates_of_listeners(
    api: httpx.AsyncClient, questions: FakeQuestions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    questions.settings = SimpleNamespace(config=Config())
    end = datetime(2031, 1, 1, tzinfo=UTC)
    trustme.CA().issue_cert("localhost", not_after=end).cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    for name, certfile in (("default", "cert.pem"), ("gone", "none.pem")):
        options: dict[str, object] = {"ssl_options": {"certfile": str(tmp_path / certfile)}}
        row = ListenerInfo(f"ssl:{name}", "ssl", name, True, "0.0.0.0:8883", True, None, 0, options)
        questions.listener_infos.append(row)
    (line,) = re.findall(r"(?m)^emqx_cert_expiry_at.*$", (await api.get("/prometheus/stats")).text)
    labels, value = line.removeprefix("emqx_cert_expiry_at").split(" ")
    assert (labels, float(value)) == ('{listener_name="default",listener_type="ssl"}', end.timestamp())
    assert "certificate of listener ssl:gone" in caplog.text
    assert (await api.get("/prometheus/stats", headers=AS_JSON)).json()["certs"] == [
        {"listener_type": "ssl", "listener_name": "default", "emqx_cert_expiry_at": int(end.timestamp())}
    ]


def test_the_use_of_the_processors(tmp_path: Path) -> None:
    account = tmp_path / "stat"
    account.write_text("cpu  10 0 20 60 10 0 0 0 0 0\ncpu0 1 2 3\n")
    cpu = CpuUse(str(account))
    assert cpu.percent() == (30.0, 70.0)
    assert cpu.percent() == (30.0, 70.0)
    account.write_text("cpu  40 0 30 115 15 0 0 0 0 0\n")
    assert cpu.percent() == (40.0, 60.0)
    account.write_text("cpu  no numbers\n")
    assert cpu.percent() == (0.0, 0.0)
    assert CpuUse(str(tmp_path / "none")).percent() == (0.0, 0.0)


# -- settings -------------------------------------------------------------------------------------------------------

DEFAULTS = {
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


@shows("GET /prometheus", "PUT /prometheus")
async def test_settings_are_changed_and_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    changed = {
        **DEFAULTS,
        "push_gateway": {**DEFAULTS["push_gateway"], "interval": "1m", "headers": {"x-env": "test"}},  # type: ignore[dict-item]
        "collectors": {**DEFAULTS["collectors"], "vm_dist": "enabled"},  # type: ignore[dict-item]
    }
    body = {
        "push_gateway": {"interval": 60_000, "headers": {"x-env": "test"}, "url": None},
        "collectors": {"vm_dist": "enabled"},
    }
    async with running(store=store) as live:
        assert (await live.api.get("/prometheus", auth=live.as_viewer())).json() == DEFAULTS
        answer = await live.api.put("/prometheus", json=body)
        assert (answer.status_code, answer.json()) == (200, changed)
    async with running(store=store) as live:
        assert (await live.api.get("/prometheus")).json() == changed
        answer = await live.api.put("/prometheus", json={})
        assert (answer.status_code, answer.json()) == (200, DEFAULTS)


@shows("GET /prometheus", "PUT /prometheus")
async def test_settings_need_credentials(autojump_clock: MockClock) -> None:
    async with running() as live:
        for method in ("GET", "PUT"):
            answer = await live.api.request(method, "/prometheus", json={}, auth=None)
            assert (answer.status_code, answer.json()["code"]) == (401, "AUTHORIZATION_HEADER_ERROR")
        answer = await live.api.put("/prometheus", json={}, auth=live.as_viewer())
        assert (answer.status_code, answer.json()["code"]) == (403, "UNAUTHORIZED_ROLE")


@shows("PUT /prometheus")
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"enable_basic_auth": "perhaps"}, "root.enable_basic_auth"),
        ({"other": 1}, "root"),
        ({"push_gateway": {"other": 1}}, "root.push_gateway"),
        ({"push_gateway": {"url": "ftp://host"}}, "root.push_gateway.url"),
        ({"push_gateway": {"url": "http://user:password@host"}}, "root.push_gateway.url"),
        ({"push_gateway": {"url": "http://host/a?b=c"}}, "root.push_gateway.url"),
        ({"push_gateway": {"interval": "soon"}}, "root.push_gateway.interval"),
        ({"push_gateway": {"interval": "999ms"}}, "root.push_gateway.interval"),
        ({"push_gateway": {"interval": -1}}, "root.push_gateway.interval"),
        ({"push_gateway": {"headers": {"a b": "c"}}}, "root"),
        ({"push_gateway": {"headers": {"a": "b\r\nc: d"}}}, "root.push_gateway.headers"),
        ({"push_gateway": {"job_name": ""}}, "root.push_gateway.job_name"),
        ({"collectors": {"vm_dist": "on"}}, "root.collectors.vm_dist"),
    ],
)
async def test_wrong_settings(autojump_clock: MockClock, body: dict[str, Any], path: str) -> None:
    async with running() as live:
        answer = await live.api.put("/prometheus", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert f'"path":"{path}' in answer.json()["message"]
        assert (await live.api.get("/prometheus")).json() == DEFAULTS


@shows(
    "GET /prometheus/stats",
    "GET /prometheus/auth",
    "GET /prometheus/data_integration",
    "GET /prometheus/schema_validation",
    "GET /prometheus/message_transformation",
    "PUT /prometheus",
)
async def test_scraping_may_need_credentials(autojump_clock: MockClock) -> None:
    async with running() as live:
        assert (await live.api.put("/prometheus", json={"enable_basic_auth": True})).json()["enable_basic_auth"]
        for path in SCRAPED:
            answer = await live.api.get(f"/prometheus/{path}", auth=None)
            assert (answer.status_code, answer.json()["code"]) == (401, "AUTHORIZATION_HEADER_ERROR")
            answer = await live.api.get(f"/prometheus/{path}", auth=("viewer-key", "wrong"))
            assert (answer.status_code, answer.json()["code"]) == (401, "BAD_API_KEY_OR_SECRET")
            assert (await live.api.get(f"/prometheus/{path}", auth=live.as_viewer())).status_code == 200
        await live.api.put("/prometheus", json={})
        assert (await live.api.get("/prometheus/stats", auth=None)).status_code == 200
