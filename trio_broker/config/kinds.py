"""The kinds of values that keys have.

Invariant: for each value v of a kind, `parse(plain(v)) == v`.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from trio_broker.config.bind import parse_bind
from trio_broker.config.durations import format_duration, parse_duration
from trio_broker.config.setting import HIDDEN, Kind, show
from trio_broker.config.sizes import format_size, parse_size


def toml_value(text: str) -> object:
    """The value that `text` is in TOML: how lists and tables come through the environment."""
    return tomllib.loads(f"value = {text}")["value"]  # TOMLDecodeError is a ValueError


def _must(holds: bool) -> None:
    if not holds:
        raise ValueError("not of this kind")


class SpelledFloat(float):
    """A number that knows how it was written: what is shown is what was said, `60s` and not `1m`."""

    text: str


class SpelledInt(int):
    """The same for whole numbers."""

    text: str


_LONGEST_SPELLING = 32
"""Characters; what was written longer is shown in our own way."""


def _spelled_float(value: float, raw: object) -> float:
    if not isinstance(raw, str) or len(raw) > _LONGEST_SPELLING or not math.isfinite(value):
        return value
    spelled = SpelledFloat(value)
    spelled.text = raw.strip()
    return spelled


def _spelled_int(value: int, raw: object) -> int:
    if not isinstance(raw, str) or len(raw) > _LONGEST_SPELLING or raw.strip().isdigit():
        return value
    spelled = SpelledInt(value)
    spelled.text = raw.strip()
    return spelled


def _sequence(value: object) -> Sequence[object]:
    if not isinstance(value, (list, tuple)):
        raise ValueError("not a list")
    return value


@frozen
class Flag(Kind):
    expects: str = "true or false"

    def read(self, raw: object) -> object:
        if isinstance(raw, str):
            return {"true": True, "false": False}.get(raw.strip().lower(), raw)
        return raw

    def check(self, value: Any) -> bool:
        _must(isinstance(value, bool))
        return bool(value)


@frozen
class Integer(Kind):
    """A whole number from `minimum` to `maximum`, both included."""

    minimum: int = 0
    maximum: int | None = None
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        end = "up" if self.maximum is None else f"to {self.maximum}"
        return f"a whole number from {self.minimum} {end}"

    def read(self, raw: object) -> object:
        if isinstance(raw, str) and re.fullmatch(r"\s*-?\d+\s*", raw, re.ASCII):
            return int(raw)
        return raw

    def check(self, value: Any) -> int:
        _must(isinstance(value, int) and not isinstance(value, bool))
        _must(value >= self.minimum and (self.maximum is None or value <= self.maximum))
        return int(value)


@frozen
class Number(Kind):
    """A number above 0."""

    expects: str = "a number above 0"

    def read(self, raw: object) -> object:
        return float(raw) if isinstance(raw, str) else raw

    def check(self, value: Any) -> float:
        _must(isinstance(value, (int, float)) and not isinstance(value, bool))
        _must(math.isfinite(value) and value > 0)
        return float(value)


@frozen
class Duration(Kind):
    """Seconds inside."""

    expects: str = 'a duration such as "15s", "1m30s" or 500 (milliseconds)'

    def read(self, raw: object) -> object:
        return _spelled_float(parse_duration(raw), raw)

    def check(self, value: Any) -> float:
        _must(isinstance(value, (int, float)) and not isinstance(value, bool))
        _must(math.isfinite(value) and value >= 0)
        return value if isinstance(value, SpelledFloat) else float(value)

    def plain(self, value: Any) -> object:
        return value.text if isinstance(value, SpelledFloat) else format_duration(value)


@frozen
class Size(Kind):
    """Bytes inside."""

    minimum: int = 0
    maximum: int | None = None
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        limits = "" if self.maximum is None else f", {self.minimum} to {self.maximum} bytes"
        return f'a size such as "10KB", "1MB" or 512 (bytes){limits}'

    def read(self, raw: object) -> object:
        return _spelled_int(parse_size(raw), raw)

    def check(self, value: Any) -> int:
        checked = Integer(self.minimum, self.maximum).check(value)
        return value if isinstance(value, SpelledInt) else checked

    def plain(self, value: Any) -> object:
        return value.text if isinstance(value, SpelledInt) else format_size(value)


@frozen
class Text(Kind):
    pattern: str = r"[^\0]*"
    expects: str = "a text"

    def read(self, raw: object) -> object:
        return raw

    def check(self, value: Any) -> str:
        _must(isinstance(value, str) and re.fullmatch(self.pattern, value) is not None)
        return str(value)


_SERVER = r"https?://(\[[^\s/?#@\[\]]+\]|[^\s/?#@:\[\]]+)(:\d*)?"


@frozen
class Url(Text):
    """An HTTP server, and `pattern` for what follows. There is no place for user and password, which would be in the
    log: headers have one.
    """

    def check(self, value: Any) -> str:
        _must(isinstance(value, str) and re.fullmatch(_SERVER + self.pattern, value) is not None)
        return str(value)

    def told(self, raw: object) -> str:
        return HIDDEN if "@" in str(raw) else show(raw)


@frozen
class Choice(Kind):
    values: tuple[str, ...]
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        return f"one of {', '.join(self.values)}"

    def read(self, raw: object) -> object:
        return raw.strip() if isinstance(raw, str) else raw

    def check(self, value: Any) -> str:
        _must(value in self.values)
        return str(value)


@frozen
class Address(Kind):
    """Where to bind, as text in its long form (`1883` becomes `0.0.0.0:1883`); empty when nothing is bound."""

    expects: str = 'an address such as "127.0.0.1:1883", "[::1]:1883", 1883, or the path of a Unix socket'

    def read(self, raw: object) -> object:
        return str(parse_bind(raw))

    def check(self, value: Any) -> str:
        return "" if value == "" else str(parse_bind(value))

    def parse(self, raw: object, *, text: bool = False) -> object:
        return self.check(raw)


@frozen
class Rate(Kind):
    """Events (bytes where `sized`) a second inside: `"1000/s"`, `"500/10s"`, `"1MB/s"`; infinite when not limited."""

    sized: bool = False
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        return f'a rate such as "{"1MB/s" if self.sized else "1000/s"}", or "infinity"'

    def read(self, raw: object) -> object:
        if not isinstance(raw, str):
            return raw
        if raw.strip() == "infinity":
            return math.inf
        number, _, interval = raw.replace(" ", "").partition("/")
        if re.fullmatch(r"\d+\.\d+", number, re.ASCII) and not self.sized:
            count = float(number)
        else:
            count = parse_size(number) if self.sized else int(number)
        if not interval:
            return float(count)
        seconds = parse_duration(interval if interval[0].isdigit() else f"1{interval}")
        _must(seconds > 0)
        return count / seconds

    def check(self, value: Any) -> float:
        _must(isinstance(value, (int, float)) and not isinstance(value, bool))
        _must(value > 0)
        return float(value)

    def plain(self, value: Any) -> object:
        if value == math.inf:
            return "infinity"
        if value != int(value):
            return value
        return f"{format_size(int(value)) if self.sized else int(value)}/s"


@frozen
class Or(Kind):
    """Values of another kind, or a word that stands for `meaning`; `zero` = 0 means the same as the word."""

    word: str
    meaning: object
    kind: Kind
    zero: bool = False
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        return f'{self.kind.expects}, or "{self.word}"'

    def read(self, raw: object) -> object:
        return self.meaning if raw == self.word else self.kind.read(raw)

    def read_text(self, text: str) -> object:
        return self.meaning if text.strip() == self.word else self.kind.read_text(text)

    def check(self, value: Any) -> object:
        if value == self.meaning and type(value) is type(self.meaning):
            return value
        return self.meaning if self.zero and value == 0 and value is not False else self.kind.check(value)

    def plain(self, value: Any) -> object:
        return self.word if value == self.meaning else self.kind.plain(value)

    def told(self, raw: object) -> str:
        return self.kind.told(raw)


@frozen
class ListOf(Kind):
    """A tuple inside. `commas` = written as one text with commas; in the environment both forms are taken."""

    kind: Kind
    commas: bool = False
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        return f"a list{' (a text with commas)' if self.commas else ''}, each item {self.kind.expects}"

    def read(self, raw: object) -> object:
        if self.commas and isinstance(raw, str):
            raw = [item.strip() for item in raw.split(",") if item.strip()]
        return tuple(self.kind.read(item) for item in _sequence(raw))

    def read_text(self, text: str) -> object:
        if text.lstrip().startswith("["):
            return self.read(toml_value(text))
        return self.read([item.strip() for item in text.split(",") if item.strip()])

    def check(self, value: Any) -> tuple[object, ...]:
        return tuple(self.kind.check(item) for item in _sequence(value))

    def plain(self, value: Any) -> object:
        items = [self.kind.plain(item) for item in value]
        return ", ".join(map(str, items)) if self.commas else items


@frozen
class Table(Kind):
    """Names with values of one kind; where `names` are given, exactly these, else such as `pattern` takes. Cannot be
    changed once made.
    """

    kind: Kind
    names: tuple[str, ...] = ()
    pattern: str = r"[\s\S]*"
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        names = f" of {', '.join(self.names)}" if self.names else ""
        return f"a table{names}, each value {self.kind.expects}"

    def read(self, raw: object) -> object:
        _must(isinstance(raw, Mapping))
        assert isinstance(raw, Mapping)
        return {name: self.kind.read(value) for name, value in raw.items()}

    def read_text(self, text: str) -> object:
        return self.read(toml_value(text))

    def check(self, value: Any) -> Mapping[str, object]:
        _must(isinstance(value, Mapping))
        _must(all(isinstance(name, str) and re.fullmatch(self.pattern, name) for name in value))
        _must(not self.names or set(value) == set(self.names))
        return MappingProxyType({name: self.kind.check(item) for name, item in value.items()})

    def plain(self, value: Any) -> object:
        return {name: self.kind.plain(item) for name, item in value.items()}


@frozen
class Percentage(Kind):
    """A fraction from 0 to 1 inside."""

    expects: str = 'a percentage such as "80%"'

    def read(self, raw: object) -> object:
        if not isinstance(raw, str):
            return raw
        found = re.fullmatch(r"\s*(\d{1,3}(\.\d{1,6})?)%\s*", raw, re.ASCII)
        _must(found is not None)
        assert found is not None
        return float(Decimal(found[1]).scaleb(-2))

    def check(self, value: Any) -> float:
        _must(isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1)
        return float(value)

    def plain(self, value: Any) -> object:
        return f"{Decimal(repr(value)).scaleb(2):f}%"


@frozen
class Watermark:
    """A mark on a memory: `fraction` of all there is, or `size` bytes where that is set."""

    fraction: float = 0.0
    size: int = 0

    def bytes_of(self, total: int) -> int:
        """The mark in bytes when there are `total` bytes."""
        return self.size or int(self.fraction * total)


@frozen
class Mark(Kind):
    """A `Watermark`."""

    expects: str = 'a percentage such as "70%" or a size such as "2GB"'

    def read(self, raw: object) -> object:
        percentage = re.fullmatch(r"\s*(\d+(\.\d+)?)%\s*", raw, re.ASCII) if isinstance(raw, str) else None
        if percentage is not None:
            return Watermark(fraction=float(Decimal(percentage[1]).scaleb(-2)))
        return Watermark(size=parse_size(raw))

    def check(self, value: Any) -> Watermark:
        _must(isinstance(value, Watermark) and 0 <= value.fraction <= 1 and (value.fraction > 0) != (value.size > 0))
        assert isinstance(value, Watermark)
        return value

    def plain(self, value: Any) -> object:
        return format_size(value.size) if value.size else f"{Decimal(repr(value.fraction)).scaleb(2):f}%"
