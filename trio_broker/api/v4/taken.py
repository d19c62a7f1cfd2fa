"""What those operations take that read their parameters for themselves: for the API document.

Invariant: nothing is checked by these types; a handler takes more than they say (a number as a text, an old spelling).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = ["AccessRule", "Message", "NewClientId", "NewPassword", "NewUsername", "Subscribing", "Unsubscribing"]

Topics = Annotated[str, Meta(description="One or several, with commas between them")] | UnsetType
Password = Annotated[str, Meta(description="In clear; it is kept as a hash")]


class Message(Struct, kw_only=True, rename={"return_": "return"}):
    """`topic` or `topics` is needed."""

    topic: Topics = UNSET
    topics: Topics = UNSET
    payload: Annotated[Any, Meta(description="A text; anything else is sent as its JSON text")] = ""
    encoding: Literal["plain", "base64"] = "plain"
    qos: Literal[0, 1, 2] = 0
    retain: bool = False
    clientid: Annotated[str, Meta(description="In whose name it is; need not be connected")] | UnsetType = UNSET
    properties: Annotated[dict[str, Any], Meta(description="Those of MQTT 5.0")] | UnsetType = UNSET
    user_properties: dict[str, str] | UnsetType = UNSET
    return_: Annotated[Any, Meta(description="Where it is there, the answer has the identifiers of the messages")] = (
        UNSET
    )


class Subscribing(Struct, kw_only=True):
    """`topic` or `topics` is needed."""

    clientid: str
    topic: Topics = UNSET
    topics: Topics = UNSET
    qos: Literal[0, 1, 2] = 0


class Unsubscribing(Struct, kw_only=True):
    clientid: str
    topic: Annotated[str, Meta(description="One filter")]


class NewUsername(Struct, kw_only=True):
    username: str
    password: Password


class NewClientId(Struct, kw_only=True):
    clientid: str
    password: Password


class NewPassword(Struct):
    password: Password


class AccessRule(Struct, kw_only=True):
    """With neither client id nor user name it holds for everybody."""

    clientid: str | UnsetType = UNSET
    username: str | UnsetType = UNSET
    topic: Annotated[str, Meta(description="A filter; whole levels `%c` and `%u` are the client's own names")]
    action: Literal["pub", "sub", "pubsub"]
    access: Literal["allow", "deny"]
