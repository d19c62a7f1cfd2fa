"""The rows of the tables of packets."""

from __future__ import annotations

from typing import Literal

from attrs import define

from trio_broker.protocol.packets import Packet

Side = Literal["client", "server"]


@define(frozen=True)
class PacketCase:
    """`data` means `packet` at `level`, sent by `sent_by`; where `canonical`, it is also what the encoder writes."""

    name: str
    level: int
    data: bytes
    packet: Packet
    sent_by: Side = "client"
    canonical: bool = True

    def __str__(self) -> str:
        return f"v{self.level} {self.name}"


@define(frozen=True)
class WrongCase:
    """`data`, sent by `sent_by` at `level`, leads to `reason_code`.

    Level 0: it is the first packet of a connection; `decoder_level` is then the dialect to answer in (0 = none).
    """

    name: str
    level: int
    data: bytes
    reason_code: int
    sent_by: Side = "client"
    decoder_level: int = 0

    def __str__(self) -> str:
        return f"v{self.level} {self.name}"
