"""The users that the broker itself keeps, by authenticator and user id.

Invariant: what is in here is what the store will have once its ticket is done; ids are compared code point by code
point; no password is kept, only what `secret` has, and that is shown to nobody.

They are there as long as nobody deletes them or their authenticator, whether that is enabled or not. Those that were
stored before it was kept when they were made do not tell.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import trio
from attrs import define, evolve, field, frozen

from trio_broker.access.passwords import PasswordError
from trio_broker.access.user_files import PasswordType, UserRow
from trio_broker.actors.authn.base import ConfiguredAuthenticator
from trio_broker.actors.authn.end_connections import end_connections
from trio_broker.errors import TrioBrokerError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = [
    "ImportCounts",
    "NoAuthenticator",
    "Secret",
    "Unsupported",
    "User",
    "UserAuthenticator",
    "UserExists",
    "Users",
]

log = logging.getLogger("trio_broker.authentication")

DOCUMENTS: Final = "authn_user:"
"""What the kinds of the documents begin with; the id of the authenticator follows, and the key is the user id."""
STRIDE: Final = 128
"""Users that are handled before others have their turn."""


class Secret(Protocol):
    """What is kept in place of a password; as a list of strings and numbers it goes into the store."""

    def kept(self) -> list[Any]: ...


S = TypeVar("S", bound=Secret)


@frozen
class User(Generic[S]):
    user_id: str
    secret: S = field(repr=False)
    is_superuser: bool = False
    created_at: int | None = field(default=None, eq=False)
    """Milliseconds since the epoch."""


@define
class ImportCounts:
    """`override`: there were other users of these ids; `skipped`: they are as they were."""

    total: int = 0
    success: int = 0
    override: int = 0
    skipped: int = 0
    failed: int = 0


class NoAuthenticator(TrioBrokerError):
    """None of this id is configured; `any_other`: but others are."""

    def __init__(self, authenticator_id: str, any_other: bool) -> None:
        super().__init__(f"Authenticator '{authenticator_id}' does not exist")
        self.any_other = any_other


class UserExists(TrioBrokerError):
    """There is a user of this id."""


class Unsupported(TrioBrokerError):
    """This authenticator cannot do that."""


class Users(Generic[S]):
    """Those of one authenticator. `read` makes a secret of its list, or raises TypeError or ValueError."""

    def __init__(self, core: Core, authenticator_id: str, read: Any) -> None:
        self._core = core
        self._id = authenticator_id
        self._kind = DOCUMENTS + authenticator_id
        self.clearings = 0
        """How often all were deleted: who made a user before that must not put it in afterwards."""
        self._users: dict[str, User[S]] = {}
        self.all: Mapping[str, User[S]] = MappingProxyType(self._users)
        for user_id, body in core.documents.of(self._kind).items():
            try:
                self._users[user_id] = _read(user_id, body, read)
            except (TypeError, ValueError):
                # What it says is not for the log.
                log.error("the user %r of %s in the store is left out: it cannot be read", user_id, authenticator_id)

    def check(self, clearings: int) -> None:
        """Raises NoAuthenticator if all were deleted since there had been so many clearings."""
        if self.clearings != clearings:
            raise NoAuthenticator(self._id, bool(self._core.authenticators.names))

    def put(self, user: User[S]) -> None:
        """In force at once; wait until it is durable. When it was made is kept, or now where there was none."""
        there = self._users.get(user.user_id)
        if there is not None:
            user = evolve(user, created_at=there.created_at)
        elif user.created_at is None:
            clock = self._core.clock
            user = evolve(user, created_at=clock.wall_ms(clock.now()))
        self._users[user.user_id] = user
        # A list, not an object: there may be very many.
        when = [] if user.created_at is None else [user.created_at]
        self._core.documents.put(self._kind, user.user_id, [*when, user.is_superuser, *user.secret.kept()])

    def delete(self, user_id: str) -> bool:
        """False: there is none. Wait until it is durable."""
        if self._users.pop(user_id, None) is None:
            return False
        self._core.documents.delete(self._kind, user_id)
        return True

    async def put_all(
        self, users: Sequence[User[S]], *, override: bool = True, clearings: int | None = None
    ) -> ImportCounts:
        """One after the other. Where the broker is killed meanwhile, some are there. With `clearings`: see `check`."""
        counts = ImportCounts(total=len(users))
        for number, user in enumerate(users, 1):
            if clearings is not None:
                self.check(clearings)
            there = self._users.get(user.user_id)
            if there is None:
                self.put(user)
                counts.success += 1
            elif there == user:
                counts.skipped += 1
            elif override:
                self.put(user)
                counts.override += 1
            else:
                counts.failed += 1
            if number % STRIDE == 0:
                await self._core.store.room()
        return counts

    async def clear(self) -> None:
        """In force at once; wait until it is durable."""
        self.clearings += 1
        gone = list(self._users)
        self._users.clear()
        for number, user_id in enumerate(gone, 1):
            if user_id not in self._users:  # else there is another one by now
                self._core.documents.delete(self._kind, user_id)
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()


def _read(user_id: str, body: Any, read: Any) -> User[Any]:
    """What `put` keeps. Raises TypeError, ValueError."""
    first, *rest = body
    if isinstance(first, bool):
        return User(user_id, read(*rest), first)
    is_superuser, *kept = rest
    return User(user_id, read(*kept), is_superuser is True, first if isinstance(first, int) else None)


class UserAuthenticator(ConfiguredAuthenticator, ABC, Generic[S]):
    """One that has users. All that changes them is in force at once, and returns when it is durable (AskTimeout).

    What adds users or changes them raises NoAuthenticator where this one was deleted meanwhile.
    """

    def __init__(self, config: Any, core: Core, authenticator_id: str, users: Users[S]) -> None:
        super().__init__(config, core, authenticator_id)
        self.users = users
        self._clearings = users.clearings

    @abstractmethod
    async def secret_of(self, password: str) -> S:
        """What is kept of a password. Raises PasswordError for one that cannot be kept."""

    @abstractmethod
    async def import_users(self, rows: Sequence[UserRow], kind: PasswordType) -> ImportCounts:
        """All of them, or none and UserFileError; those who are there already are replaced. Raises Unsupported."""

    async def add_user(self, user_id: str, password: str, is_superuser: bool = False) -> User[S]:
        """Raises UserExists, and what `secret_of` raises."""
        self._check_new(user_id)
        user = User(user_id, await self.secret_of(password), is_superuser)
        self.users.check(self._clearings)
        self._check_new(user_id)  # somebody may have been faster
        self.users.put(user)
        await self.core.durable()
        return user

    async def add_users(self, wanted: Iterable[tuple[str, str]]) -> list[UserExists | PasswordError | None]:
        """Ids and passwords, one after the other; what was wrong with each. All that are added are durable together."""
        outcomes: list[UserExists | PasswordError | None] = []
        for number, (user_id, password) in enumerate(wanted, 1):
            try:
                self._check_new(user_id)
                secret = await self.secret_of(password)
                self.users.check(self._clearings)
                self._check_new(user_id)
            except (UserExists, PasswordError) as error:
                outcomes.append(error)
            else:
                self.users.put(User(user_id, secret))
                outcomes.append(None)
            if number % STRIDE == 0:
                await self.core.store.room()
        await self.core.durable()
        return outcomes

    async def update_user(self, user_id: str, password: str, is_superuser: bool | None = None) -> User[S] | None:
        """A new password; None keeps `is_superuser`. Answers None where there is no such user.

        Who is connected stays so, with the rights of before.
        """
        if user_id not in self.users.all:
            return None
        secret = await self.secret_of(password)
        self.users.check(self._clearings)
        user = self.users.all.get(user_id)
        if user is None:
            return None  # somebody has deleted it meanwhile
        user = evolve(user, secret=secret, is_superuser=user.is_superuser if is_superuser is None else is_superuser)
        self.users.put(user)
        await self.core.durable()
        return user

    async def delete_user(self, user_id: str) -> bool:
        """The connections of those who were let in as this user end, too. False: there is no such user."""
        if not self.users.delete(user_id):
            return False
        try:
            await self._end_connections(user_id)
            await self.core.durable()
        finally:
            # Once more: somebody may have been on the way in.
            with suppress(TrioBrokerError), trio.CancelScope(shield=True), trio.move_on_after(5):
                await self._end_connections(user_id)
        return True

    async def _put_all(self, users: Sequence[User[S]]) -> ImportCounts:
        counts = await self.users.put_all(users, clearings=self._clearings)
        await self.core.durable()
        return counts

    async def delete(self) -> None:
        await self.users.clear()
        await self.core.durable()

    def _check_new(self, user_id: str) -> None:
        if user_id in self.users.all:
            raise UserExists(user_id)

    async def _end_connections(self, user_id: str) -> None:
        if user_id not in self.users.all:
            await end_connections(self.core, self.id, user_id)
