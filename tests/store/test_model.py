"""Random work, commits and restarts against a naive model: what comes back is what was written."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable

import apsw
import hypothesis.strategies as st
import trio
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store.model import Model, TestWall, assert_messages_match_copies, assert_same, plain_copy, read
from store.shims import Failing
from store.using import committing, ignore
from trio.testing import MockClock

from trio_broker.protocol.message import Message, Origin
from trio_broker.protocol.packets import Properties, Will
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import PUBLISH_SENT, PUBREL_SENT, Outgoing
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import (
    DeleteDocument,
    DeleteReceived,
    DeleteRetained,
    DeleteSession,
    DeleteSubscription,
    Operation,
    PutDocument,
    PutReceived,
    PutRetained,
    PutSession,
    PutSubscription,
)
from trio_broker.store.sqlite import SqliteStore

TEXT = st.text(max_size=5)
TOPICS = st.sampled_from(["a", "a/b", "", "ä/日", "$SYS/x"])
FILTERS = st.sampled_from(["a/#", "+/b", "a", "$share/g/a/#", "$share/ü/+"])
IDENTIFIERS = st.integers(1, 65535)
PAYLOADS = st.binary(max_size=20) | st.sampled_from([b"", b"\0", b"x" * 5000])
NUMBERS = st.none() | st.integers(0, 1 << 42)
EXPIRIES = st.none() | st.integers(-(10**7), 10**7).map(lambda ms: ms / 1000)
PROPERTIES: st.SearchStrategy[Properties] = st.fixed_dictionaries(  # type: ignore[assignment]
    {},
    optional={
        "payload_format_indicator": st.sampled_from([0, 1]),
        "message_expiry_interval": st.integers(0, 0xFFFFFFFF),
        "content_type": TEXT,
        "response_topic": TOPICS,
        "correlation_data": st.binary(max_size=5),
        "user_property": st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
    },
)
WILLS = st.builds(
    Will,
    TOPICS,
    PAYLOADS,
    st.integers(0, 2),
    st.booleans(),
    st.fixed_dictionaries(
        {}, optional={"will_delay_interval": st.integers(0, 99), "user_property": st.just([("k", "v"), ("k", "w")])}
    ),
)
SUBSCRIPTION = st.tuples(st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2), st.integers(0, 268435455))


def subscription_to(topic_filter: str, options: tuple[int, bool, bool, int, int]) -> Subscription:
    qos, no_local, retain_as_published, retain_handling, identifier = options
    share_name, match_filter = None, topic_filter
    if topic_filter.startswith("$share/"):
        _, share_name, match_filter = topic_filter.split("/", 2)
    return Subscription(
        topic_filter, match_filter, share_name, qos, no_local, retain_as_published, retain_handling, identifier
    )


class StoreMachine(RuleBasedStateMachine):
    """The rules for any store; what waits runs under a mock clock, each time on a new one."""

    store: SqliteStore | MemoryStore

    def __init__(self) -> None:
        super().__init__()
        self.wall = TestWall()
        self.model = Model(self.wall)
        self.keys: list[int] = []
        self.copies: dict[int, tuple[int, Outgoing]] = {}
        self.dropped: set[tuple[int, str]] = set()
        """Subscriptions that ended since the last commit: which place they get then is not looked at here."""
        self.message_id = 1 << 40
        self.stamp = 0

    def run(self, function: Callable[[], Awaitable[None]]) -> None:
        trio.run(function, clock=MockClock(autojump_threshold=0))

    def committed(self) -> None:
        self.dropped.clear()

    # -- sessions, subscriptions and the like

    def write(self, *operations: Operation) -> None:
        for operation in operations:
            self.model.write(operation)
        self.store.write(*operations)

    @rule(data=st.data(), is_new=st.booleans(), will=st.none() | WILLS, numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS))
    def put_session(
        self, data: st.DataObject, is_new: bool, will: Will | None, numbers: tuple[int | None, int | None, int | None]
    ) -> None:
        if is_new or not self.keys:
            key = self.store.new_key()
            assert key not in self.keys
            self.keys.append(key)
        else:
            key = data.draw(st.sampled_from(self.keys))
        username = data.draw(st.none() | TEXT)
        interval = data.draw(st.integers(0, 0xFFFFFFFF))
        connected, owner = data.draw(st.booleans()), data.draw(TEXT)
        expires_at, will_at, since = numbers
        self.write(
            PutSession(key, f"ç{key}", username, key, interval, connected, expires_at, will, will_at, since, owner)
        )

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), with_rows=st.booleans())
    def end_session(self, data: st.DataObject, with_rows: bool) -> None:
        """Its copies are removed first, as a journal does it, or later, where they are many; the rest goes with it."""
        self.end_one(data, with_rows)

    def end_one(self, data: st.DataObject, with_rows: bool) -> None:
        key = data.draw(st.sampled_from(self.keys))
        self.keys.remove(key)
        if data.draw(st.integers(0, 3)):
            self.remove_copies([copy for session, copy in self.copies.values() if session == key], with_rows)
        self.write(DeleteSession(key))

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), topic_filter=FILTERS, options=SUBSCRIPTION)
    def subscribe(self, data: st.DataObject, topic_filter: str, options: tuple[int, bool, bool, int, int]) -> None:
        key = data.draw(st.sampled_from(self.keys))
        if (key, topic_filter) not in self.dropped:
            self.write(PutSubscription(key, subscription_to(topic_filter, options)))

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), topic_filter=FILTERS)
    def unsubscribe(self, data: st.DataObject, topic_filter: str) -> None:
        key = data.draw(st.sampled_from(self.keys))
        self.dropped.add((key, topic_filter))
        self.write(DeleteSubscription(key, topic_filter))

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), numbers=st.lists(IDENTIFIERS, max_size=3), is_there=st.booleans())
    def received(self, data: st.DataObject, numbers: list[int], is_there: bool) -> None:
        key = data.draw(st.sampled_from(self.keys))
        self.write(PutReceived(key, numbers) if is_there else DeleteReceived(key, numbers))

    @rule(kind=st.sampled_from(["user", "rule"]), key=st.sampled_from(["", "a", "b"]), body=st.none() | TEXT)
    def document(self, kind: str, key: str, body: str | None) -> None:
        self.write(DeleteDocument(kind, key) if body is None else PutDocument(kind, key, body))

    # -- messages

    def message(
        self, topic: str, payload: bytes, properties: Properties, expires_at: float | None, jump: int
    ) -> Message:
        if expires_at is not None and "message_expiry_interval" in properties:
            # What is kept never lives longer than this from the start on.
            properties = {**properties, "message_expiry_interval": 0xFFFFFFFF}
        self.message_id += jump
        origin = Origin("püb", None if jump % 2 else "user")
        return Message(topic, payload, 2, bool(jump % 3), self.message_id, origin, 12, properties, expires_at)

    @rule(
        topic=TOPICS,
        payload=PAYLOADS,
        properties=PROPERTIES,
        expires_at=EXPIRIES,
        jump=st.sampled_from([1, 2, 3, 1 << 35]),
    )
    def retain(self, topic: str, payload: bytes, properties: Properties, expires_at: float | None, jump: int) -> None:
        self.write(PutRetained(self.message(topic, payload, properties, expires_at, jump)))

    @rule(topic=TOPICS, back=st.integers(0, 12))
    def clear_retained(self, topic: str, back: int) -> None:
        """Also with an id that is older than what is there."""
        self.write(DeleteRetained(topic, self.message_id - back))

    @precondition(lambda self: self.keys)
    @rule(
        data=st.data(),
        topic=TOPICS,
        payload=PAYLOADS,
        properties=PROPERTIES,
        expires_at=EXPIRIES,
        jump=st.sampled_from([1, 2, 3, 1 << 35]),
        count=st.integers(1, 5),
    )
    def publish(
        self,
        data: st.DataObject,
        topic: str,
        payload: bytes,
        properties: Properties,
        expires_at: float | None,
        jump: int,
        count: int,
    ) -> None:
        """One message, or two, for some sessions, in one turn."""
        messages = [self.message(topic, payload, properties, expires_at, jump)]
        if data.draw(st.booleans()):
            messages.append(self.message(topic, b"second", properties, None, 1))
        for key in data.draw(st.lists(st.sampled_from(self.keys), min_size=1, max_size=count)):
            copies = [self.copy(data, message) for message in messages]
            self.store.add(key, copies)
            self.model.add(key, copies)
            self.copies.update((copy.row, (key, copy)) for copy in copies)
        rows = {
            (copy.message.message_id, copy.message_row) for _, copy in self.copies.values() if copy.message in messages
        }
        assert len(rows) == len(messages), "all copies of a publish share its message"

    def copy(self, data: st.DataObject, message: Message) -> Outgoing:
        self.stamp += 1
        identifiers, share = data.draw(
            st.sampled_from(
                [((), None), ((), None), ((1, 268435455), None), ((), "$share/g/a/#"), ((3,), "$share/ü/+")]
            )
        )
        copy = Outgoing(message, data.draw(st.integers(1, 2)), data.draw(st.booleans()), identifiers, self.stamp)
        copy.share = share
        copy.packet_identifier = data.draw(st.just(0) | IDENTIFIERS)
        copy.phase = PUBLISH_SENT if copy.packet_identifier else 0
        return copy

    def some_copies(self, data: st.DataObject) -> list[Outgoing]:
        rows = data.draw(st.lists(st.sampled_from(sorted(self.copies)), min_size=1, max_size=6, unique=True))
        return [self.copies[row][1] for row in rows]

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), phase=st.sampled_from([PUBLISH_SENT, PUBREL_SENT]), number=IDENTIFIERS)
    def change(self, data: st.DataObject, phase: int, number: int) -> None:
        copies = self.some_copies(data)
        for copy in copies:
            copy.packet_identifier = number
            copy.phase = phase
        self.store.change(copies)
        self.model.change(copies)

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), with_rows=st.booleans())
    def acknowledge(self, data: st.DataObject, with_rows: bool) -> None:
        self.remove_copies(self.some_copies(data), with_rows)

    def remove_copies(self, copies: list[Outgoing], with_rows: bool) -> None:
        rows = [copy.row for copy in copies]
        self.model.remove(rows)
        if with_rows:
            self.store.remove_rows(rows, [copy.message_row for copy in copies])
        else:
            self.store.remove(copies)
            assert not any(copy.row for copy in copies)
        for row in rows:
            del self.copies[row]

    # -- reading

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def queue(self, data: st.DataObject) -> None:
        """Whether committed or not, in the order of the rows; there is nothing for rows that never were."""
        copies = self.some_copies(data)

        async def work() -> None:
            await self.ask(copies)

        self.run(work)

    async def ask(self, copies: list[Outgoing]) -> None:
        kept = sorted((copy for copy in copies if not copy.packet_identifier), key=lambda copy: copy.row)
        found = await self.store.queue([copy.row for copy in kept] + [1 << 40])
        assert [copy.row for copy in found] == [copy.row for copy in kept]
        assert [copy.message_row for copy in found] == [copy.message_row for copy in kept]
        assert [plain_copy(copy, self.wall) for copy in found] == [plain_copy(copy, self.wall) for copy in kept]

    async def compare(self, database: apsw.Connection) -> None:
        """Everything is committed."""
        found = await read(self.store, self.wall)
        assert_same(found.state, self.model.state())
        assert found.last_message_id >= self.model.newest_id
        assert_messages_match_copies(database)


class MemoryMachine(StoreMachine):
    """MemoryStore: the next broker gets the same one."""

    @initialize()
    def begin(self) -> None:
        self.store = MemoryStore()
        self.run(self.open)

    async def open(self) -> None:
        await self.store.open(self.wall, ignore)

    @invariant()
    def everything_is_durable(self) -> None:
        if hasattr(self, "store"):
            assert self.store.ticket.done

    @rule()
    def read_all(self) -> None:
        async def look() -> None:
            assert isinstance(self.store, MemoryStore)
            await self.compare(self.store._database._writer)

        self.run(look)
        self.committed()

    @rule()
    def restart(self) -> None:
        async def again() -> None:
            await self.store.close()
            await self.open()

        self.run(again)
        self.committed()
        self.read_all()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.read_all()
            assert isinstance(self.store, MemoryStore)
            self.store._database.close()


class SqliteMachine(StoreMachine):
    """SqliteStore: commits, restarts with a clock that says something else, and a disk that is full for a while."""

    store: SqliteStore

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.disk = Failing()
        self.told: list[str | None] = []
        self.is_closed = True

    @initialize(durability=st.sampled_from(["full", "normal"]))
    def begin(self, durability: str) -> None:
        self.durability = durability
        self.run(self.open)

    async def open(self) -> None:
        self.store = SqliteStore(self.directory.name, self.durability, vfs=self.disk.name)
        await self.store.open(self.wall, self.told.append)
        self.is_closed = False
        assert self.store.damaged is None

    async def close(self) -> None:
        self.is_closed = True
        await self.store.close()

    async def settle(self, more: Callable[[], Awaitable[None]] | None = None, *, seconds: float = 0) -> None:
        """Run the committer until all is durable; `more` is done while it commits, and after `seconds` of failure."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.store.run)
            if more is not None:
                await committing(self.store)
                await more()
            if seconds:
                await trio.sleep(seconds)
                self.disk.heal()
            while not self.store.ticket.done:
                await self.store.ticket.wait()
            assert self.store.failure is None
            nursery.cancel_scope.cancel()

    @rule()
    def commit(self) -> None:
        self.run(self.settle)
        self.committed()

    @rule(data=st.data(), what=st.lists(st.sampled_from(["queue", "end_session", "acknowledge"]), max_size=4))
    def commit_and_more(self, data: st.DataObject, what: list[str]) -> None:
        """Some are read and some go away while what was added is on its way to the disk."""

        async def more() -> None:
            for name in what:
                if name == "end_session" and self.keys:
                    self.end_one(data, with_rows=True)
                elif name == "acknowledge" and self.copies:
                    self.remove_copies(self.some_copies(data), with_rows=False)
                elif name == "queue" and self.copies:
                    await self.ask(self.some_copies(data))

        async def work() -> None:
            await self.settle(more)

        self.run(work)
        self.committed()

    @rule(error=st.sampled_from([apsw.FullError, apsw.IOError]), seconds=st.integers(1, 20))
    def commit_when_there_is_room_again(self, error: type[apsw.Error], seconds: int) -> None:
        self.told.clear()
        self.disk.fail(error)

        async def work() -> None:
            await self.settle(seconds=seconds)

        self.run(work)
        self.disk.heal()
        self.committed()
        assert [reason is None for reason in self.told] in ([], [False, True])

    @rule(hours=st.integers(0, 5), with_look=st.booleans())
    def restart(self, hours: int, with_look: bool) -> None:
        """Trio's clock of the next broker shows something else: times are wall clock."""
        moved: set[int] = set()

        async def again() -> None:
            await self.close()
            self.wall.offset_ms += hours * 3_600_000
            for _, copy in self.copies.values():
                message = copy.message
                if message.expires_at is not None and message.message_id not in moved:
                    moved.add(message.message_id)
                    message.expires_at -= hours * 3600
            for kept in self.model._retained.values():
                if kept.expires_at is not None and kept.message_id not in moved:
                    moved.add(kept.message_id)
                    kept.expires_at -= hours * 3600
            await self.open()
            if with_look:
                await self.look()

        self.run(again)
        self.committed()

    async def look(self) -> None:
        await self.compare(self.store._database._writer)

    def teardown(self) -> None:
        async def end() -> None:
            await self.settle()
            await self.look()
            await self.close()
            await self.open()
            await self.look()

        try:
            if hasattr(self, "store"):
                self.run(end)
        finally:
            if not self.is_closed:
                self.run(self.close)
            self.disk.unregister()
            self.directory.cleanup()


MemoryMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
SqliteMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40)


TestMemoryStore = MemoryMachine.TestCase
TestSqliteStore = SqliteMachine.TestCase


async def test_the_last_message_id_is_that_of_the_newest_copy(autojump_clock: MockClock) -> None:
    """No id may be given again, also where the newest message is not the last that was added."""
    wall = TestWall()
    store = MemoryStore()
    await store.open(wall, ignore)
    old, new = (Message("t", b"", 1, False, number, Origin("p"), 1) for number in (1, 1 << 50))
    key = store.new_key()
    store.write(PutSession(key, "c", None, 1, 1))
    store.add(key, [Outgoing(new, 1, False, (), 1), Outgoing(old, 1, True, (), 2)])
    found = await read(store, wall)
    assert found.last_message_id >= 1 << 50
    await store.close()
    store._database.close()


async def test_a_subscription_made_again_comes_last(autojump_clock: MockClock) -> None:
    """Whether a commit came between the end of the old one and the new one makes no difference."""
    wall = TestWall()
    orders = []
    for with_commit in (True, False):
        store = MemoryStore()
        await store.open(wall, ignore)
        key = store.new_key()
        store.write(PutSession(key, "c", None, 1, 1))
        for topic_filter in ("a", "b"):
            store.write(PutSubscription(key, Subscription(topic_filter, topic_filter)))
        await read(store, wall)
        store.write(DeleteSubscription(key, "a"))
        if with_commit:
            await read(store, wall)
        store.write(PutSubscription(key, Subscription("a", "a")))
        found = await read(store, wall)
        orders.append([subscription.topic_filter for subscription in found.state.subscriptions[key]])
        await store.close()
        store._database.close()
    assert orders == [["b", "a"], ["b", "a"]]
