"""What a session actor shows of itself when it is asked.

Invariant: called by the actor within its step; read only, but for what the messages that set something ask for.
`session_info` may be called by others while the actor is parked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_broker.actors.keep_alive import set_keep_alive
from trio_broker.actors.messages import AskInfo, AskQueue, AskSubscriptions, SetKeepAlive, SetQuota, SetRates
from trio_broker.actors.rate_limit import set_quota, set_rates
from trio_broker.protocol.packets import MQTT31
from trio_broker.session.inflight import MAX_PACKET_IDENTIFIER
from trio_broker.session.info import QueuedMessage, QueuePage, SessionInfo
from trio_broker.session.outgoing import Outgoing
from trio_broker.session.session import Session

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.session.connect import Terms


def show(actor: SessionActor, question: AskInfo | AskQueue | AskSubscriptions) -> None:
    """Answer a question about the session."""
    session = actor.session
    assert session is not None
    match question:
        case SetKeepAlive():
            set_keep_alive(actor, question.interval)
            question.answer(session_info(actor))
        case SetRates():
            set_rates(actor, question.messages_rate, question.bytes_rate)
            question.answer(session_info(actor))
        case SetQuota():
            set_quota(actor, question.messages_rate)
            question.answer(session_info(actor))
        case AskInfo():
            question.answer(session_info(actor))
        case AskQueue():
            _answer_queue(actor, session, question)
        case AskSubscriptions():
            question.answer(list(session.subscriptions.values()))


def session_info(actor: SessionActor) -> SessionInfo:
    """The session as the management API shows it."""
    session, terms = actor.session, actor.terms
    assert session is not None
    limits = session.limits
    peer = actor.peer
    return SessionInfo(
        client_id=actor.client_id,
        username=actor.username,
        connected=actor.connection is not None,
        connected_at=actor.connected_at,
        disconnected_at=actor.disconnected_at,
        created_at=session.created_at,
        peer_host=peer.peer_host if peer is not None else "",
        peer_port=peer.peer_port if peer is not None else 0,
        listener=peer.listener if peer is not None else "",
        protocol_name=protocol_name(terms),
        protocol_level=terms.level if terms is not None else 5,
        keep_alive=terms.keep_alive if terms is not None else 0,
        clean_start=terms.clean_start if terms is not None else False,
        expiry_interval=session.expiry_interval,
        is_bridge=terms.bridge if terms is not None else False,
        subscriptions_count=len(session.subscriptions),
        subscriptions_max=limits.max_subscriptions,
        inflight_count=len(session.inflight),
        inflight_max=_inflight_max(session),
        mqueue_len=len(session.mqueue),
        mqueue_max=limits.max_mqueue_len,
        mqueue_dropped=session.mqueue.dropped,
        awaiting_rel_count=len(session.awaiting_rel),
        awaiting_rel_max=limits.max_awaiting_rel or None,
        mailbox_len=actor.mailbox_len(),
        stats=session.stats.as_dict(),
        certificate_common_name=peer.certificate_common_name if peer is not None else None,
        certificate_distinguished_name=peer.certificate_distinguished_name if peer is not None else None,
        enable_authn=bool(peer.enable_authn) if peer is not None else True,
        awaiting_comp_count=session.inflight.releasing,
        mqueue_entered=session.mqueue.entered,
    )


def protocol_name(terms: Terms | None) -> str:
    """As the CONNECT had it."""
    return "MQIsdp" if terms is not None and terms.level == MQTT31 else "MQTT"


def _inflight_max(session: Session) -> int:
    """What limits it: the setting, or the Receive Maximum of the client that is connected."""
    return min(session.limits.max_inflight or MAX_PACKET_IDENTIFIER, session.inflight.maximum)


def queue_page(session: Session, which: str, after: int | None, limit: int) -> QueuePage:
    """A page of the mqueue (`which` is "mqueue") or of the inflight window ("inflight")."""
    if which == "mqueue":
        return QueuePage(queue_rows(session.mqueue.page(after, limit)), session.mqueue.start)
    copies = session.inflight.page(after, limit)
    first = next(iter(session.inflight.page(None, 1)), None)
    return QueuePage(queue_rows(copies), None if first is None else first.inserted_at_ns)


def _answer_queue(actor: SessionActor, session: Session, question: AskQueue) -> None:
    """At once, unless some of it lies in the store."""
    page = queue_page(session, question.which, question.after, question.limit)
    tail = session.mqueue.tail
    missing = question.limit - len(page.messages)
    rows = tail.page_after(question.after, missing) if question.which == "mqueue" and tail is not None else []
    if rows:
        actor.core.sessions_nursery.start_soon(actor.answer_page, question, page, rows)
    else:
        question.answer(page)


def queue_rows(copies: list[Outgoing]) -> list[QueuedMessage]:
    return [_row(copy) for copy in copies]


def _row(copy: Outgoing) -> QueuedMessage:
    message = copy.message
    return QueuedMessage(
        message_id=message.message_id,
        topic_name=message.topic_name,
        qos=copy.qos,
        publish_at=message.publish_at,
        from_client_id=message.origin.client_id,
        from_username=message.origin.username,
        payload=message.payload,
        inserted_at_ns=copy.inserted_at_ns,
    )
