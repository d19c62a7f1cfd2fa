"""A broker in a thread with a Trio loop of its own, for programs that have no Trio loop, or another one.

Invariant: `stop` returns only when the thread has ended, and raises what the broker failed with; every method is safe
from any thread, and never waits for ever.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import trio

from trio_broker.actors.questions import ClientFilter
from trio_broker.config import Config
from trio_broker.protocol.message import Message
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.session.info import SessionInfo
from trio_broker.testing.running import RunningBroker, only_one, open_broker

__all__ = ["BrokerStopped", "Inbox", "ThreadedBroker"]

T = TypeVar("T")

TIMEOUT: Final = 30.0
"""How long a call into the broker may take before it is an error (seconds)."""
ALL_CLIENTS: Final = 1_000_000


class BrokerStopped(Exception):
    """The broker is not running (any more); its failure, where it had one, is the cause."""


class Inbox:
    """The messages of one `ThreadedBroker.subscribe`."""

    def __init__(self) -> None:
        self._messages: queue.Queue[Message] = queue.Queue()

    def get(self, timeout: float = TIMEOUT) -> Message:
        """The next message. Raises TimeoutError after `timeout` seconds."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no message within {timeout:g} s") from None

    def put(self, message: Message) -> None:
        self._messages.put(message)

    def __len__(self) -> int:
        return self._messages.qsize()


class ThreadedBroker:
    """`with ThreadedBroker() as broker:` a broker on `broker.host`, `broker.port`; configured as `open_broker` is."""

    def __init__(self, config: Config | None = None, **overrides: object) -> None:
        self._config = config
        self._overrides = overrides
        self._thread: threading.Thread | None = None
        self._ready: Future[RunningBroker] = Future()
        self._failure: BaseException | None = None
        self._pending: set[Future[Any]] = set()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._scope: trio.CancelScope | None = None
        self._stop: trio.Event | None = None

    # -- where it is

    @property
    def running(self) -> RunningBroker:
        """The broker itself: touch it only in its own thread, by `call`."""
        if self._failure is not None or self._thread is None or not self._ready.done():
            raise self._stopped()
        return self._ready.result()

    @property
    def host(self) -> str:
        return self.running.host

    @property
    def port(self) -> int:
        return self.running.port

    @property
    def url(self) -> str:
        """`mqtt://host:port`."""
        return self.running.url

    @property
    def listeners(self) -> dict[str, tuple[Any, ...]]:
        """Listener identifier -> (host, port)."""
        return self.running.listeners

    # -- begin and end

    def start(self) -> None:
        """Returns when the broker listens. Raises what kept it from that."""
        if self._thread is not None:
            raise RuntimeError("a ThreadedBroker is started once")
        self._thread = threading.Thread(target=self._run, name="trio-broker", daemon=True)
        self._thread.start()
        self._ready.result(TIMEOUT)

    def stop(self, timeout: float = TIMEOUT) -> None:
        """End the broker gracefully, after `timeout` seconds by force. Raises what it failed with."""
        thread = self._thread
        if thread is None:
            return
        if self._stop is not None:
            self._soon(self._stop.set)
        thread.join(timeout)
        if thread.is_alive() and self._scope is not None:
            self._soon(self._scope.cancel)
            thread.join(timeout)
            raise TimeoutError(f"the broker did not end within {timeout:g} s")
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # -- what it can be asked

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any, timeout: float = TIMEOUT) -> T:
        """Run an async function in the broker's Trio loop and wait for its result; for what has no method here.

        It blocks: fine in tests, also asyncio and Trio ones, as the broker runs in another thread.

        Raises:
            BrokerStopped: the broker has ended.
            TimeoutError: no result within `timeout` seconds; the function is cancelled.
        """
        future: Future[T] = Future()
        scope = trio.CancelScope()
        self._spawn(future, scope, function, *arguments)
        try:
            return future.result(timeout)
        except TimeoutError:
            if not future.done():
                self._soon(scope.cancel)
            raise

    def publish(
        self,
        topic_name: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        """Publish as the broker itself; returns when it has been routed."""
        broker = self.running.broker

        async def publish() -> None:
            await broker.publish(topic_name, payload, qos=qos, retain=retain, properties=properties)

        self.call(publish)

    @contextmanager
    def subscribe(self, topic_filter: str, qos: int = 1) -> Iterator[Inbox]:
        """Messages that match, retained ones first; subscribed when the block begins."""
        inbox = Inbox()
        scope = trio.CancelScope()
        subscribed: Future[None] = Future()
        ended: Future[None] = Future()
        broker = self.running.broker

        async def forward() -> None:
            try:
                async with broker.subscribe(topic_filter, qos=qos) as messages:
                    subscribed.set_result(None)
                    async for message in messages:
                        inbox.put(message)
            except Exception as error:
                if subscribed.done():
                    raise
                subscribed.set_exception(error)

        self._spawn(ended, scope, forward)
        self._pending.add(subscribed)
        subscribed.add_done_callback(self._pending.discard)
        subscribed.result(TIMEOUT)
        try:
            yield inbox
        finally:
            self._soon(scope.cancel)
            ended.result(TIMEOUT)

    def clients(self) -> list[SessionInfo]:
        """Every session, connected or not."""
        questions = self.running.broker.questions

        async def clients() -> list[SessionInfo]:
            return (await questions.clients(ClientFilter(), 0, ALL_CLIENTS)).rows

        return self.call(clients)

    def client(self, client_id: str) -> SessionInfo | None:
        return self.call(self.running.broker.questions.client, client_id)

    def kick(self, client_id: str) -> bool:
        """End the client's connection and session; False when there is none."""
        return self.call(self.running.broker.questions.kick, client_id)

    def retained(self, topic_filter: str = "#") -> dict[str, bytes]:
        """Topic name -> payload of the retained messages that match, oldest first."""
        questions = self.running.broker.questions

        async def retained() -> dict[str, bytes]:
            rows, _ = await questions.retained(topic_filter, 0, ALL_CLIENTS)
            found = [await questions.retained_message(row.topic_name) for row in rows]
            return {row.topic_name: row.payload or b"" for row in found if row is not None}

        return self.call(retained)

    def clear_retained(self, topic_filter: str | None = None) -> int:
        """Delete retained messages (all, without a filter) and say how many."""
        return self.call(self.running.broker.questions.delete_retained, topic_filter)

    def wait_disconnected(self, client_id: str, timeout: float = TIMEOUT) -> None:
        """Returns when no client of this identifier is connected: the broker has seen its end."""
        broker = self.running.broker

        async def wait() -> None:
            gone = trio.Event()
            hooks = broker.hooks.disconnected

            def hook(event: Any) -> None:
                if event.client_id == client_id:
                    gone.set()

            hooks.append(hook)
            try:
                info = await broker.questions.client(client_id)
                if info is not None and info.connected:
                    await gone.wait()
            finally:
                hooks.remove(hook)

        self.call(wait, timeout=timeout)

    # -- the thread

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - raised by `stop` and `start` in the thread that asks
            failure = self._failure = only_one(error)
        stopped = self._stopped()
        if not self._ready.done():
            self._ready.set_exception(failure or stopped)
        for future in list(self._pending):
            if not future.done():
                future.set_exception(stopped)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        with trio.CancelScope() as self._scope:
            async with open_broker(self._config, **self._overrides) as running, trio.open_nursery() as nursery:
                self._nursery = nursery
                self._ready.set_result(running)
                try:
                    await self._stop.wait()
                finally:
                    self._nursery = None
                    nursery.cancel_scope.cancel()

    def _spawn(
        self,
        future: Future[T],
        scope: trio.CancelScope,
        function: Callable[..., Awaitable[T]],
        *arguments: Any,
    ) -> None:
        """Run it in the broker's loop; `future` always gets a result or an exception, also when the broker ends."""
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

        async def run() -> None:
            try:
                with scope:
                    result = await function(*arguments)
            except Exception as error:  # noqa: BLE001 - raised where the future's result is asked for
                future.set_exception(error)
            except BaseException:
                future.set_exception(self._stopped())
                raise
            else:
                # A cancelled `scope` leaves no result; nobody waits for one then but `subscribe`, for the end.
                future.set_result(result if not scope.cancelled_caught else None)  # type: ignore[arg-type]

        def start() -> None:
            if self._nursery is None:
                future.set_exception(self._stopped())
            else:
                self._nursery.start_soon(run)

        if not self._soon(start) and not future.done():
            future.set_exception(self._stopped())

    def _soon(self, function: Callable[[], object]) -> bool:
        """Have it called in the broker's thread; False when there is none any more."""
        if self._token is None:
            return False
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return False
        return True

    def _stopped(self) -> BrokerStopped:
        stopped = BrokerStopped("the broker is not running")
        stopped.__cause__ = self._failure
        return stopped
