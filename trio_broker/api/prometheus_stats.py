"""The figures of the broker for Prometheus: which there are, what they are called, and where they come from.

Invariant: each counter and gauge of the broker is under one name here; the names are EMQX's, ours begin with
`trio_broker_`. What stands for a part of EMQX that is not here is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import trio

from trio_broker.actors.machine import machine_memory
from trio_broker.actors.questions import Questions, Runtime
from trio_broker.api.context import Api
from trio_broker.api.formats import by_reason
from trio_broker.api.prometheus_certificates import expiries
from trio_broker.api.prometheus_families import Family, Groups, counter, gauge, json_rows
from trio_broker.api.rates import CpuUse
from trio_broker.protocol.reason_codes import ReasonCode

__all__ = ["NOT_EXPORTED", "RENAMED", "as_json", "collect", "figure_name", "is_closed", "machine"]

PARTS: Final = {
    "packets": ("bytes.", "packets."),
    "messages": ("messages.",),
    "delivery": ("delivery.",),
    "client": ("client.",),
    "session": ("session.",),
    "olp": ("overload_protection.",),
    "acl": ("authorization.",),
    "authn": ("authentication.",),
    "_own": ("connections.",),
}
"""Where the counters go, by how their names begin."""

RENAMED: Final = {
    "packets.connect.received": "emqx_packets_connect",
    "messages.dropped.await_pubrel_timeout": "emqx_messages_dropped_expired",
    "connections.refused": "trio_broker_connections_refused",
}
NOT_EXPORTED: Final = ("messages.persisted", "messages.validation_", "messages.transformation_", "messages.retained")

CLUSTER_WIDE: Final = ("topics.", "subscriptions.shared.", "retained.")
"""Gauges that are the same on every node: they belong to none."""

MRIA: Final = (
    "last_intercepted_trans",
    "weight",
    "replicants",
    "server_mql",
    "lag",
    "bootstrap_time",
    "bootstrap_num_keys",
    "message_queue_len",
    "replayq_len",
)

REASONS: Final = {
    ReasonCode.SUCCESS: "normal",
    ReasonCode.UNSPECIFIED_ERROR: "tcp_closed",
    ReasonCode.SESSION_TAKEN_OVER: "takenover",
    ReasonCode.ADMINISTRATIVE_ACTION: "kicked",
}
"""EMQX's words for why a connection ended; the others are called as their reason codes are."""


def is_closed(api: Api) -> bool:
    """Does what is scraped need credentials?"""
    return bool(api.questions.settings.config.prometheus.enable_basic_auth)


async def collect(questions: Questions, cpu: CpuUse, labels: Mapping[str, str]) -> Groups:
    """All of them now; `labels` for those that belong to a node."""
    counters = await questions.metrics()
    gauges = {"durable_subscriptions.count": 0, "durable_subscriptions.max": 0, **await questions.stats()}
    runtime = await questions.runtime()
    groups: Groups = {
        "stats": [
            gauge(figure_name(name), f"Gauge {name}", value, {} if name.startswith(CLUSTER_WIDE) else labels)
            for name, value in gauges.items()
        ],
        "metrics": machine(cpu, runtime, labels),
    }
    for part, beginnings in PARTS.items():
        groups[part] = [
            counter(figure_name(name), f"Counter {name}", value, labels)
            for name, value in counters.items()
            if name.startswith(beginnings) and not name.startswith(NOT_EXPORTED)
        ]
    groups["messages"].append(counter("emqx_messages_retained", "Always 0, as in EMQX", 0, labels))
    groups["_client"] = [_reasons(runtime, labels)]
    groups["cluster"] = [
        gauge("emqx_cluster_nodes_running", "Nodes that run", 1, labels),
        gauge("emqx_cluster_nodes_stopped", "Nodes that are stopped", 0, labels),
    ]
    groups["certs"] = [
        Family(
            "emqx_cert_expiry_at",
            "gauge",
            "When the certificate of a listener expires, in seconds since the epoch",
            [
                ({"listener_type": listener.kind, "listener_name": listener.name}, expiry)
                for listener, expiry in await expiries(await questions.listeners())
            ],
        )
    ]
    groups["cluster_rpc"] = [gauge("emqx_conf_sync_txid", "0: there is nothing to synchronize", 0, labels)]
    groups["_mria"] = [gauge(f"emqx_mria_{name}", "0: there is no replication", 0, labels) for name in MRIA]
    return groups


def as_json(groups: Groups, labels: Mapping[str, str]) -> dict[str, Any]:
    """The JSON form: figures by their names in each part, or (with `labels`) a list of such objects, one a node."""
    shown: dict[str, Any] = {}
    for part, families in groups.items():
        if part == "certs":
            shown[part] = json_rows(families)
        elif not part.startswith("_"):
            figures = {family.name: family.samples[0][1] for family in families}
            shown[part] = [{**labels, **figures}] if labels else figures
    return shown


def figure_name(name: str) -> str:
    """What a counter or gauge is called for Prometheus."""
    return RENAMED.get(name, f"emqx_{name.replace('.', '_')}")


def machine(cpu: CpuUse, runtime: Runtime, labels: Mapping[str, str]) -> list[Family]:
    """What is about the machine and the process."""
    use, idle = cpu.percent()
    total, used = machine_memory()
    figures = {
        "cpu_use": ("Percent of the machine's processor time that was used since the last look", use),
        "cpu_idle": ("Percent of it that was not", idle),
        "run_queue": ("Tasks that are ready to run", trio.lowlevel.current_statistics().tasks_runnable),
        "process_messages_in_queues": ("Messages in the mailboxes of the broker's own actors", runtime.mailboxes),
        "total_memory": ("Bytes of memory of the machine", total),
        "used_memory": ("Bytes of it that are used", used),
        "mnesia_tm_mailbox_size": ("0: there is no such process", 0),
        "broker_pool_max_mailbox_size": ("Messages in the mailbox of the router", runtime.router),
    }
    return [gauge(f"emqx_vm_{name}", help, value, labels) for name, (help, value) in figures.items()]


def _reasons(runtime: Runtime, labels: Mapping[str, str]) -> Family:
    counts: Counter[int] = Counter()
    for at_listener in runtime.disconnected.values():
        counts.update(at_listener)
    samples = [({"reason": reason, **labels}, count) for reason, count in by_reason(counts, REASONS).items()]
    return Family("emqx_client_disconnected_reason", "counter", "Why connections of clients ended", samples)
