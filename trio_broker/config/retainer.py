"""The `[retainer]` table: which retained messages are kept, for how long, and how fast they go in and out.

Invariant: rates are events a second, infinite where there is no limit; durations are seconds.
"""

from __future__ import annotations

import math
from typing import Any

from attrs import frozen

from trio_broker.config.kinds import Choice, Duration, Flag, Integer, ListOf, Or, Rate, Size
from trio_broker.config.setting import Kind, setting
from trio_broker.config.tree import table

_LEVELS: Kind = ListOf(Integer(1, 255))


@frozen(kw_only=True)
class BackendConfig:
    """`backend`: where they are kept."""

    type: str = setting(Choice(("built_in_database",)), "built_in_database", "the only one there is")
    storage_type: str = setting(Choice(("ram", "disc")), "disc", "disc = kept like everything else")
    max_retained_messages: int = setting(
        Integer(0), 0, "messages of other topics are not retained beyond so many; 0 = no limit"
    )
    index_specs: tuple[Any, ...] = setting(
        ListOf(_LEVELS), [[1, 2, 3], [1, 3], [2, 3], [3]], "the levels of topics that EMQX makes indices for"
    )
    enable: bool = setting(Flag(), True, "false is the same as retainer.enable = false")


@frozen(kw_only=True)
class RetainerConfig:
    enable: bool = setting(Flag(), True, "false = none is retained, cleared or given to subscribers")
    msg_expiry_interval: float = setting(
        Duration(), "0s", "for those that say none of their own; 0 = they never expire"
    )
    msg_expiry_interval_override: float = setting(
        Or("disabled", math.inf, Duration()), "disabled", "the longest a retained message may live, whatever it says"
    )
    allow_never_expire: bool = setting(
        Flag(), True, "msg_expiry_interval_override is not for those that would never expire"
    )
    msg_clear_interval: float = setting(
        Duration(), "0s", "from one look for expired ones to the next; 0 = when another one comes"
    )
    max_payload_size: int = setting(Size(1), "1MB", "larger ones are passed on, and not retained")
    stop_publish_clear_msg: bool = setting(Flag(), False, "true = the empty message that clears a topic goes to nobody")
    delivery_rate: float = setting(Rate(), "infinity", "retained messages given to new subscriptions, all together")
    max_publish_rate: float = setting(Rate(), "infinity", "messages taken to be retained; more are only passed on")
    backend: BackendConfig = table(BackendConfig, "where they are kept")

    @property
    def is_enabled(self) -> bool:
        return self.enable and self.backend.enable
