"""Access rules as EMQX's `acl.conf` has them: Erlang terms, one `{allow | deny, WHO, ACTION, TOPICS}.` after the other.

Invariant: whatever the text is, it becomes rules or an `AclError` that names the line; nothing of it is overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define

from trio_broker.access.rule_conditions import Condition, all_of, any_of, from_network, is_equal, is_like
from trio_broker.access.rule_topics import EVERYTHING, RuleTopic
from trio_broker.access.rules import ALL_QOS, Rule, RuleSet
from trio_broker.routing.patterns import PatternError

__all__ = ["LONGEST", "AclError", "read_acl"]

LONGEST: Final = 1 << 20
"""Characters of the whole text."""
DEEPEST: Final = 16
"""Tuples and lists within each other."""


class AclError(ValueError):
    """`line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def read_acl(text: str) -> RuleSet:
    """The rules of a text. Raises AclError."""
    if len(text) > LONGEST:
        raise AclError(1, f"longer than {LONGEST} characters")
    return RuleSet([_rule(term) for term in _Reader(text).terms()])


# -- Erlang terms -------------------------------------------------------------------------------------------------


@define(frozen=True)
class _Term:
    """`kind` is tuple, list, atom, text or number."""

    kind: str
    value: Any
    line: int

    def error(self, reason: str) -> AclError:
        return AclError(self.line, reason)

    @property
    def shown(self) -> str:
        if self.kind == "tuple":
            shown = "{" + ", ".join(one.shown for one in self.value[:4]) + "}"
        elif self.kind == "list":
            shown = "[" + ", ".join(one.shown for one in self.value[:4]) + "]"
        else:
            shown = f'"{self.value}"' if self.kind == "text" else str(self.value)
        return ascii(shown[:60])[1:-1] + ("..." if len(shown) > 60 else "")


_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|%[^\n]*)
    |(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")
    |(?P<quoted>'[^'\\]*(?:\\.[^'\\]*)*')
    |(?P<atom>[a-z][A-Za-z0-9_@]*)
    |(?P<number>-?[0-9]{1,18}(?![0-9A-Za-z_]))
    |(?P<mark><<|>>|[{}\[\],./])""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(?:x\{([0-9A-Fa-f]+)\}|x([0-9A-Fa-f]{2})|([0-7]{1,3})|\^(.)|(.))", re.DOTALL)
_ESCAPED: Final = dict(zip("bdefnrstv", "\b\x7f\x1b\f\n\r \t\v", strict=True))
_CLOSING: Final = {"{": "}", "[": "]"}


class _Reader:
    """The tokens of a text, and the terms that they make."""

    def __init__(self, text: str) -> None:
        self._text = text.removeprefix("\ufeff")
        self._at = 0
        self._line = 1
        self._kind = self._token = ""
        """The next token; the kind "" stands behind the last one."""
        self._begins = 1
        """The line of the next token."""
        self._next()

    def terms(self) -> list[_Term]:
        found = []
        while self._kind:
            found.append(self._term(0))
            self._expect(".", "a rule ends with a full stop")
        return found

    def _next(self) -> None:
        text = self._text
        while True:
            self._begins = self._line
            if self._at == len(text):
                self._kind = self._token = ""
                return
            match = _TOKEN.match(text, self._at)
            if match is None:
                raise AclError(self._line, _not_understood(text[self._at :]))
            token, kind = match.group(), match.lastgroup
            assert kind is not None
            self._at = match.end()
            self._line += token.count("\n")
            if kind != "space":
                self._kind, self._token = kind, token
                return

    def _expect(self, mark: str, reason: str) -> None:
        if self._kind != "mark" or self._token != mark:
            raise AclError(self._begins, f"{reason}, not {self._found()}")
        self._next()

    def _found(self) -> str:
        return f"with {self._token[:40]!a}" if self._kind else "with the end of the text"

    def _term(self, depth: int) -> _Term:
        kind, token, line = self._kind, self._token, self._begins
        if kind in ("atom", "quoted"):
            self._next()
            return _Term("atom", token if kind == "atom" else self._unescaped(token, line), line)
        if kind == "number":
            self._next()
            return _Term("number", int(token), line)
        if kind == "text":
            return _Term("text", self._texts(), line)
        if token == "<<":
            return self._binary(line)
        if token in _CLOSING:
            if depth == DEEPEST:
                raise AclError(line, f"more than {DEEPEST} tuples and lists within each other")
            return _Term("tuple" if token == "{" else "list", self._sequence(_CLOSING[token], depth), line)
        raise AclError(line, f"{token!a} is out of place" if kind else "the text ends within a rule")

    def _sequence(self, closing: str, depth: int) -> tuple[_Term, ...]:
        self._next()
        if self._token == closing and self._kind == "mark":
            self._next()
            return ()
        found = [self._term(depth + 1)]
        while self._kind == "mark" and self._token == ",":
            self._next()
            found.append(self._term(depth + 1))
        self._expect(closing, f"this goes on with a comma, or ends with {closing}")
        return tuple(found)

    def _binary(self, line: int) -> _Term:
        self._next()
        text = self._texts() if self._kind == "text" else ""
        if self._kind == "mark" and self._token == "/":
            self._next()
            if self._token != "utf8":
                raise AclError(self._begins, f"a binary may go on with /utf8, not {self._found()}")
            self._next()
        self._expect(">>", 'a binary is <<"TEXT">> and ends with >>')
        return _Term("text", text, line)

    def _texts(self) -> str:
        """One text, or several behind each other, which are one."""
        found = []
        while self._kind == "text":
            found.append(self._unescaped(self._token, self._begins))
            self._next()
        return "".join(found)

    @staticmethod
    def _unescaped(token: str, line: int) -> str:
        text = token[1:-1]
        if "\\" not in text:
            return text

        def character(match: re.Match[str]) -> str:
            long, short, octal, control, other = match.groups()
            if control is not None:
                return chr(ord(control) % 32)
            if other is not None:
                return _ESCAPED.get(other, other)
            code = int(octal, 8) if octal is not None else int(long or short, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise AclError(line, f"{match.group()[:20]} is no character")
            return chr(code)

        return _ESCAPE.sub(character, text)


def _not_understood(rest: str) -> str:
    if rest[0] in "\"'":
        return "a text begins here and does not end"
    return f"{rest[:1]!a} is not understood"


# -- what they say ------------------------------------------------------------------------------------------------

_PERMISSIONS: Final = {"allow": True, "deny": False}
_ACTIONS: Final = {"publish": (True, False), "subscribe": (False, True), "all": (True, True)}
_FACTS: Final = {
    "user": "username",
    "username": "username",
    "client": "clientid",
    "clientid": "clientid",
    "zone": "zone",
    "listener": "listener",
}
_OLD: Final = {"%c": "${clientid}", "%u": "${username}"}
"""As they were before EMQX 5, for whole levels."""


def _rule(term: _Term) -> Rule:
    parts: tuple[_Term, ...] = term.value if term.kind == "tuple" else ()
    if len(parts) not in (2, 4):
        raise term.error(f"a rule is {{allow, WHO, ACTION, TOPICS}}. or {{allow, all}}., not {term.shown}")
    allow = _one_of(parts[0], _PERMISSIONS)
    if len(parts) == 2:
        _one_of(parts[1], {"all": None})
        # As in EMQX `#` does not reach `$...`: that is allowed by name only; but who denies all means all.
        return Rule(allow, (RuleTopic("#") if allow else EVERYTHING,))
    publish, subscribe, qos, retain = _action(parts[2])
    topics = tuple(_topic(one) for one in _items(parts[3], "the topics"))
    return Rule(allow, topics, publish, subscribe, qos, retain, _who(parts[1]))


def _who(term: _Term) -> Condition | None:
    """None: everybody."""
    if term.kind == "atom" and term.value == "all":
        return None
    parts: tuple[_Term, ...] = term.value if term.kind == "tuple" else ()
    name = parts[0].value if parts and parts[0].kind == "atom" else ""
    if name in _FACTS and len(parts) == 2:
        return _fact(_FACTS[name], parts[1])
    if name == "client_attr" and len(parts) == 3:
        return _fact(f"client_attrs.{_text(parts[1])}", parts[2])
    if name == "ipaddr" and len(parts) == 2:
        return _made(from_network, [_text(parts[1])], parts[1])
    if name == "ipaddrs" and len(parts) == 2:
        return _made(from_network, [_text(one) for one in _items(parts[1], "the addresses")], parts[1])
    if name in ("and", "or") and len(parts) == 2:
        whos = [_who(one) for one in _items(parts[1], "the conditions")]
        if not whos:
            raise parts[1].error(f"'{name}' of no condition")
        conditions = [who for who in whos if who is not None]
        if name == "and":
            return all_of(conditions)
        return any_of(conditions) if len(conditions) == len(whos) else None
    raise term.error(
        f"{term.shown} says nobody; there are all, {{username, U}}, {{clientid, C}}, {{ipaddr, A}}, {{ipaddrs, [A]}}, "
        "{client_attr, NAME, V}, {zone, Z}, {listener, L}, {'and', [WHO]}, {'or', [WHO]}; {re, PATTERN} for a text"
    )


def _fact(name: str, term: _Term) -> Condition:
    if term.kind == "tuple" and len(term.value) == 2 and term.value[0].kind == "atom" and term.value[0].value == "re":
        pattern = _text(term.value[1])
        return _made(lambda text: is_like(name, text), pattern, term)
    return is_equal(name, _text(term))


def _made(make: Callable[[Any], Condition], said: Any, term: _Term) -> Condition:
    try:
        return make(said)
    except PatternError as error:
        raise term.error(f"bad regular expression: {error}") from None
    except ValueError as error:
        raise term.error(str(error)) from None


def _action(term: _Term) -> tuple[bool, bool, frozenset[int], bool | None]:
    """Publish, subscribe, QoS, RETAIN."""
    if term.kind != "tuple":
        return (*_one_of(term, _ACTIONS), ALL_QOS, None)
    if len(term.value) != 2:
        raise term.error(f"an action is publish, subscribe, all or {{publish, [{{qos, 1}}]}}, not {term.shown}")
    qos: set[int] = set()
    retain: bool | None = None
    for option in _items(term.value[1], "the options"):
        pair: tuple[_Term, ...] = option.value if option.kind == "tuple" else ()
        name = pair[0].value if len(pair) == 2 and pair[0].kind == "atom" else ""
        if name == "qos":
            given = _items(pair[1], "the QoS") if pair[1].kind == "list" else (pair[1],)
            for one in given:
                if one.kind != "number" or one.value not in ALL_QOS:
                    raise one.error(f"{one.shown} is none of the QoS 0, 1 and 2")
                qos.add(one.value)
            if not given:
                raise pair[1].error("a rule without QoS never holds")
        elif name == "retain":
            retain = _one_of(pair[1], {"true": True, "false": False, "all": None})
        else:
            raise option.error(f"{option.shown} is no option; there are {{qos, 1}}, {{qos, [1, 2]}}, {{retain, true}}")
    publish, subscribe = _one_of(term.value[0], _ACTIONS)
    return publish, subscribe, frozenset(qos) or ALL_QOS, retain


def _topic(term: _Term) -> RuleTopic:
    try:
        if term.kind == "tuple" and len(term.value) == 2:
            _one_of(term.value[0], {"eq": None})
            return RuleTopic(_text(term.value[1]), literal=True)
        text = _text(term)
        return RuleTopic.read("/".join(_OLD.get(level, level) for level in text.split("/")))
    except AclError:
        raise
    except ValueError as error:
        raise term.error(f"{term.shown} is no topic: {error}") from None


def _items(term: _Term, what: str) -> Sequence[_Term]:
    if term.kind != "list":
        raise term.error(f"{what} are a list [...], not {term.shown}")
    items: tuple[_Term, ...] = term.value
    return items


def _text(term: _Term) -> str:
    if term.kind != "text":
        raise term.error(f'a text "..." is expected, not {term.shown}')
    text: str = term.value
    return text


def _one_of(term: _Term, known: dict[str, Any]) -> Any:
    if term.kind != "atom" or term.value not in known:
        raise term.error(f"{term.shown} is none of {', '.join(known)}")
    return known[term.value]
