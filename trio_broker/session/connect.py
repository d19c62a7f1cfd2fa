"""What a CONNECT asks for and what it gets: the checks of the server and the properties of the CONNACK.

Invariant: nothing here changes a session; a CONNECT that is refused leaves no trace [MQTT-3.1.4-1, 3.1.4-2].
"""

from __future__ import annotations

from attrs import define

from trio_broker.errors import ProtocolError
from trio_broker.protocol.encode import strip_to_fit
from trio_broker.protocol.packets import MQTT5, MQTT31, MQTT311, ConnAck, Connect, Properties
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.limits import Limits
from trio_broker.session.session import UNLIMITED_PACKET_SIZE


@define
class Terms:
    """What holds for one connection. Intervals in seconds, sizes in bytes."""

    level: int
    client_id: str
    assigned: bool
    clean_start: bool
    keep_alive: int
    session_expiry_interval: int
    receive_maximum: int  # of the client
    maximum_packet_size: int  # of the client
    request_problem_information: bool
    bridge: bool = False
    authentication_method: str | None = None


def check(connect: Connect, limits: Limits) -> None:
    """Raise ProtocolError with the reason code of the CONNACK when this CONNECT cannot be served."""
    client_id = connect.client_id
    if not client_id:
        if connect.protocol_level == MQTT31 or (connect.protocol_level == MQTT311 and not connect.clean_start):
            raise ProtocolError(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "empty client identifier")  # [3.1.1 3.1.3-8]
    elif (size := len(client_id.encode())) > limits.max_clientid_len:
        raise ProtocolError(
            ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
            f"client identifier of {size} bytes, at most {limits.max_clientid_len} allowed",
        )
    if connect.will is not None:
        if connect.will.topic_name.count("/") >= limits.max_topic_levels:
            levels = limits.max_topic_levels
            raise ProtocolError(ReasonCode.TOPIC_NAME_INVALID, f"will topic of more than {levels} levels")
        if connect.will.qos > limits.max_qos_allowed:  # [MQTT-3.2.2-12]
            raise ProtocolError(ReasonCode.QOS_NOT_SUPPORTED, f"will with QoS {connect.will.qos}")
        if connect.will.retain and not limits.retain_available:  # [MQTT-3.2.2-13]
            raise ProtocolError(ReasonCode.RETAIN_NOT_SUPPORTED, "will with RETAIN")


def terms(connect: Connect, client_id: str, limits: Limits) -> Terms:
    """What holds for a CONNECT that was accepted; `client_id` is the final one (assigned where it was empty)."""
    properties = connect.properties
    keep_alive = connect.keep_alive
    if limits.server_keepalive is not None and connect.protocol_level == MQTT5:  # a 3.x client cannot be told
        keep_alive = limits.server_keepalive
    if connect.protocol_level == MQTT5:
        expiry = properties.get("session_expiry_interval", 0)
    else:
        # Clean session 0 is kept as long as the server keeps any session.
        expiry = 0 if connect.clean_start else limits.session_expiry_interval
    return Terms(
        level=connect.protocol_level,
        client_id=client_id,
        assigned=not connect.client_id,
        clean_start=connect.clean_start,
        keep_alive=keep_alive,
        session_expiry_interval=expiry,
        receive_maximum=properties.get("receive_maximum", 65535),
        maximum_packet_size=properties.get("maximum_packet_size", UNLIMITED_PACKET_SIZE),
        request_problem_information=properties.get("request_problem_information", 1) == 1,
        bridge=connect.bridge,
        authentication_method=properties.get("authentication_method"),
    )


def connack_properties(
    connect: Connect, agreed: Terms, limits: Limits, authentication_data: bytes | None = None
) -> Properties:
    """The properties of a successful CONNACK: every limit that is lower than what a client may presume."""
    properties: Properties = {}
    if agreed.level != MQTT5:
        return properties
    if limits.max_awaiting_rel:
        properties["receive_maximum"] = min(limits.max_awaiting_rel, 65535)
    if limits.max_qos_allowed < 2:
        properties["maximum_qos"] = limits.max_qos_allowed  # [MQTT-3.2.2-9]
    if not limits.retain_available:
        properties["retain_available"] = 0
    if limits.max_packet_size < UNLIMITED_PACKET_SIZE:
        properties["maximum_packet_size"] = limits.max_packet_size
    if agreed.assigned:
        properties["assigned_client_identifier"] = agreed.client_id  # [MQTT-3.1.3-7]
    if limits.max_topic_alias:
        properties["topic_alias_maximum"] = limits.max_topic_alias
    if not limits.wildcard_subscription:
        properties["wildcard_subscription_available"] = 0
    if not limits.shared_subscription:
        properties["shared_subscription_available"] = 0
    if agreed.keep_alive != connect.keep_alive:
        properties["server_keep_alive"] = agreed.keep_alive  # [MQTT-3.2.2-21]
    if agreed.authentication_method is not None:  # [MQTT-4.12.0-5]
        properties["authentication_method"] = agreed.authentication_method
        if authentication_data is not None:
            properties["authentication_data"] = authentication_data
    if limits.response_information and connect.properties.get("request_response_information") == 1:
        properties["response_information"] = limits.response_information  # [MQTT-3.1.2-28]
    return properties


def connack_frame(
    connect: Connect, agreed: Terms, limits: Limits, present: bool, authentication_data: bytes | None = None
) -> bytes | None:
    """A successful CONNACK; None where it does not fit into the client's maximum packet size [MQTT-3.1.2-24]."""
    if agreed.level != MQTT5:
        return b"\x20\x02\x01\x00" if present and agreed.level != MQTT31 else b"\x20\x02\x00\x00"
    properties = connack_properties(connect, agreed, limits, authentication_data)
    return strip_to_fit(ConnAck(0, present, properties), MQTT5, agreed.maximum_packet_size)
