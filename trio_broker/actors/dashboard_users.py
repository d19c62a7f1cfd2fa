"""Dashboard users: people who log in to the REST API with a password, and in which role.

Invariant: no password is kept, neither in the store nor in memory, only slow salted hashes. Whoever is not let in
learns nothing about why: a user that there is not costs the same work as a wrong password. The last administrator stays
one.

A user has a `stamp`; it changes with the password and the role, and what was given out before it (tokens) is void.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from attrs import define, evolve, field
from msgspec import Struct

from trio_broker.actors.api_keys import Role
from trio_broker.actors.login_guard import LoginGuard
from trio_broker.actors.slow_hash import Line, SlowHash
from trio_broker.config.credentials import password_fault, username_fault
from trio_broker.errors import TrioBrokerError

if TYPE_CHECKING:
    from trio_broker.actors.clock import Clock
    from trio_broker.actors.core import Core
    from trio_broker.config.model import DashboardConfig

log = logging.getLogger("trio_broker.dashboard_users")

DOCUMENTS: Final = "dashboard_user"
"""The kind of the documents; the key is the user name."""
MOST: Final = 1000
"""Users."""
FIRST: Final = "Made at the first start"
RENEWED: Final = "Made for a new password"


@define(frozen=True)
class GeneratedUser:
    """A user that was just made; the password is known only here, to be shown once."""

    username: str
    password: str = field(repr=False)


@define(frozen=True)
class DashboardUser:
    username: str
    role: Role
    description: str
    hash: SlowHash = field(repr=False)
    stamp: int = 0


class _Body(Struct, kw_only=True, forbid_unknown_fields=True):
    role: Role
    description: str
    hash: SlowHash


class UserError(TrioBrokerError):
    """It cannot be done; the message says why."""


class LastAdministrator(UserError):
    """Nobody would be left who can make another."""


class WrongPassword(TrioBrokerError):
    """Or no such user: that is not told."""


class LoginLocked(TrioBrokerError):
    """Too many wrong passwords for this user name came from this address."""


class DashboardUsers:
    """All users of this broker. What changes one returns when that is durable."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._users: dict[str, DashboardUser] = {}
        self._line = Line()
        self._guard = LoginGuard()
        self._recognized: dict[str, tuple[SlowHash, bytes]] = {}
        self._recognizing: dict[tuple[str, bytes], trio.Event] = {}
        self._digest_key = secrets.token_bytes(32)
        self._stamp = 0
        self._nobody: SlowHash | None = None
        for username, document in core.documents.of(DOCUMENTS).items():
            try:
                body = msgspec.convert(document, _Body)
                body.hash.check()
            except (msgspec.ValidationError, ValueError) as error:
                log.error("the dashboard user %r in the store is left out: %s", username, error)
                continue
            self._users[username] = DashboardUser(username, body.role, body.description, body.hash, self._next_stamp())

    @property
    def clock(self) -> Clock:
        return self._core.clock

    @property
    def config(self) -> DashboardConfig:
        """The settings in force."""
        return self._core.settings.config.dashboard

    def rows(self) -> list[DashboardUser]:
        return list(self._users.values())

    def get(self, username: str) -> DashboardUser | None:
        return self._users.get(username)

    # -- passwords ----------------------------------------------------------------------------------------------

    async def log_in(self, username: str, password: str, address: str = "") -> DashboardUser:
        """The user as it is now. Raises WrongPassword, LoginLocked, TooBusy."""
        if self._guard.is_locked(username, address, self.clock.now()):
            raise LoginLocked
        async with self._line.turn(address):
            user = await self._check(username, password, address)
        if user is None:
            raise WrongPassword
        return user

    async def recognize(self, username: str, password: str, address: str = "") -> DashboardUser:
        """The same for who shows name and password with each request: the slow hash is asked once.

        Those who come with one password at one time wait for one answer. Raises as `log_in`.
        """
        digest = hmac.digest(self._digest_key, password.encode("utf-8", "surrogatepass"), "sha256")
        place = username, digest
        while (user := self._recognized_as(username, digest, address)) is None:
            if (other := self._recognizing.get(place)) is not None:
                await other.wait()
                continue
            done = self._recognizing[place] = trio.Event()
            try:
                user = await self.log_in(username, password, address)
                self._recognized[username] = user.hash, digest
            finally:
                del self._recognizing[place]
                done.set()
        return user

    def _recognized_as(self, username: str, digest: bytes, address: str) -> DashboardUser | None:
        user, known = self._users.get(username), self._recognized.get(username)
        if user is None or known is None or known[0] is not user.hash or not hmac.compare_digest(known[1], digest):
            return None
        return None if self._guard.is_locked(username, address, self.clock.now()) else user

    async def refuse_slowly(self, password: str, address: str = "") -> None:
        """The work of a wrong password, for who is refused anyway. Raises TooBusy."""
        async with self._line.turn(address):
            await self._line.work((await self._nobodys_hash()).verify, password)

    async def change_password(
        self, username: str, old: str, new: str, address: str = "", *, plain: bool = False
    ) -> DashboardUser:
        """Raises UserError for a new one that is not good enough (`plain`: as `create`), and what `log_in` raises."""
        _refuse(password_fault(new, plain=plain))
        if self._guard.is_locked(username, address, self.clock.now()):
            raise LoginLocked
        async with self._line.turn(address):
            user = await self._check(username, old, address)
            if user is None:
                raise WrongPassword
            hash = await self._line.work(SlowHash.made, new)
            now = self._users.get(username)
            if now is None or now.hash is not user.hash:
                raise WrongPassword  # somebody was faster
            user = self._put(evolve(now, hash=hash, stamp=self._next_stamp()))
        self._guard.forgive(username)
        await self._core.durable()
        return user

    async def _check(self, username: str, password: str, address: str) -> DashboardUser | None:
        """In turn: nobody's count is looked at before the answer to the one before is known."""
        if self._guard.is_locked(username, address, self.clock.now()):
            raise LoginLocked
        nobodys = await self._nobodys_hash()
        user = self._users.get(username)
        stored = nobodys if user is None else user.hash
        is_right = await self._line.work(stored.verify, password)
        if is_right and user is not None:
            self._guard.succeeded(username, address)
            now = self._users.get(username)
            return now if now is not None and now.hash is user.hash else None
        # A name that is none may be a password in the wrong field.
        name = username if user is not None else "somebody"
        if self._guard.failed(username, address, self.clock.now(), self.config):
            log.warning("%s sent too many wrong passwords from %s: the login is locked", name, address or "here")
        else:
            log.info("a wrong password for %s from %s", name, address or "here")
        return None

    async def _nobodys_hash(self) -> SlowHash:
        if self._nobody is None:
            self._nobody = await self._line.work(SlowHash.made, secrets.token_urlsafe(16))
        return self._nobody

    # -- to be managed ------------------------------------------------------------------------------------------

    async def create(
        self,
        username: str,
        password: str,
        role: Role = Role.ADMINISTRATOR,
        description: str = "",
        *,
        address: str = "",
        plain: bool = False,
    ) -> DashboardUser:
        """`plain`: a password of one kind of characters will do. Raises UserError, TooBusy."""
        self._check_new(username, role)
        _refuse(password_fault(password, plain=plain))
        async with self._line.turn(address):
            hash = await self._line.work(SlowHash.made, password)
        self._check_new(username, role)  # somebody may have been faster
        user = self._put(DashboardUser(username, role, description, hash, self._next_stamp()))
        self._guard.forgive(username)
        await self._core.durable()
        return user

    async def update(self, username: str, description: str, role: Role | None = None) -> DashboardUser | None:
        """The role stays where none is given. None: there is no such user. Raises UserError."""
        user = self._users.get(username)
        if user is None:
            return None
        if role not in (None, user.role):
            assert role is not None
            _check_role(role)
            self._check_not_last(user)
            user = evolve(user, role=role, stamp=self._next_stamp())
        user = self._put(evolve(user, description=description))
        await self._core.durable()
        return user

    async def delete(self, username: str) -> bool:
        """False when there is none. Raises UserError."""
        user = self._users.get(username)
        if user is None:
            return False
        self._check_not_last(user)
        del self._users[username]
        self._recognized.pop(username, None)
        self._core.documents.delete(DOCUMENTS, username)
        self._guard.forgive(username)
        await self._core.durable()
        return True

    async def first(self) -> GeneratedUser | None:
        """Where there is no user at all, make the default one; what is given back was generated, to be shown once."""
        if self._users:
            return None
        config = self.config
        made = GeneratedUser(config.default_username, config.default_password or _generated())
        await self.create(made.username, made.password, Role.ADMINISTRATOR, FIRST)
        return None if config.default_password else made

    async def renew(self) -> GeneratedUser:
        """Another password, to be shown once, for the default user, who is an administrator then; made if missing."""
        made = GeneratedUser(self.config.default_username, _generated())
        async with self._line.turn(""):
            hash = await self._line.work(SlowHash.made, made.password)
        old = self._users.get(made.username)
        description = RENEWED if old is None else old.description
        self._put(DashboardUser(made.username, Role.ADMINISTRATOR, description, hash, self._next_stamp()))
        self._guard.forgive(made.username)
        await self._core.durable()
        return made

    # -- inside -------------------------------------------------------------------------------------------------

    def _check_new(self, username: str, role: Role) -> None:
        _refuse(username_fault(username))
        _check_role(role)
        if username in self._users:
            raise UserError("username_already_exists")
        if len(self._users) >= MOST:
            raise UserError("Maximum number of users reached.")

    def _check_not_last(self, user: DashboardUser) -> None:
        others = (one.role for one in self._users.values() if one.username != user.username)
        if user.role is Role.ADMINISTRATOR and Role.ADMINISTRATOR not in others:
            raise LastAdministrator(f"{user.username} is the only administrator")

    def _put(self, user: DashboardUser) -> DashboardUser:
        self._users[user.username] = user
        body = _Body(role=user.role, description=user.description, hash=user.hash)
        self._core.documents.put(DOCUMENTS, user.username, msgspec.to_builtins(body))
        return user

    def _next_stamp(self) -> int:
        self._stamp += 1
        return self._stamp


def _check_role(role: Role) -> None:
    if role is Role.PUBLISHER:
        raise UserError("a dashboard user is an administrator or a viewer")


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise UserError(fault)


def _generated() -> str:
    while True:
        password = secrets.token_urlsafe(18)
        if password_fault(password) is None:
            return password
