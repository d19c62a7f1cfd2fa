"""`password_based:built_in_database`: users and hashes of their passwords, kept by the broker itself.

Invariant: a client that gives no password is refused; who is unknown is left to the next authenticator, after the work
of checking a password, so that the time does not tell who is known.

Where the hash is slow (bcrypt, pbkdf2) that is true of unknown clients too: each of them costs a place in the line and
the time of a thread. Where most clients are another authenticator's, that one stands better in front of this.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import evolve

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.access.passwords import Hasher, PasswordError, PasswordHash
from trio_broker.access.user_files import BAD_FORMAT, EMPTY_USERS, PasswordType, UserFileError, UserRow, rows_of_file
from trio_broker.actors.authn.login_line import LoginsBusy
from trio_broker.actors.authn.users import STRIDE, ImportCounts, User, UserAuthenticator
from trio_broker.actors.threads import in_thread
from trio_broker.config.files import read_plain_file
from trio_broker.errors import ConfigError
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["BuiltInDatabase"]

log = logging.getLogger("trio_broker.authentication")

LONGEST_PASSWORD: Final = 65_535
"""Bytes."""
LARGEST_FILE: Final = 64 * 1024 * 1024
"""Bytes of a file of users."""
TELL_EVERY: Final = 10.0
"""Seconds between two lines that say how far an import is."""
TELL_BUSY_EVERY: Final = 60.0


class BuiltInDatabase(UserAuthenticator[PasswordHash]):
    """Clients share verdicts: there are four."""

    def __init__(self, config: Any, core: Core, authenticator_id: str) -> None:
        super().__init__(config, core, authenticator_id, core.authn_users.tables[authenticator_id])
        self._by_client_id = config.user_id_type == "clientid"
        self._hasher = Hasher(config.password_hash_algorithm)
        self._user = Verdict(authenticator=authenticator_id, by_client_id=self._by_client_id)
        self._superuser = evolve(self._user, superuser=True)
        self._refused = Verdict(ReasonCode.BAD_USER_NAME_OR_PASSWORD, authenticator=authenticator_id)
        self._busy = Verdict(ReasonCode.SERVER_BUSY, authenticator=authenticator_id)
        self._turned_away = 0
        self._tell_at = 0.0

    # -- at a CONNECT -------------------------------------------------------------------------------------------

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        password = credentials.password
        if password is None:
            return self._refused
        user = self._user_of(credentials)
        kept = self._hasher.decoy if user is None else user.secret
        if not self._hasher.is_slow:
            right = self._hasher.verify(password, kept)
        elif not self.users.all:
            return None  # there is nothing to be found out
        else:
            try:
                line = self.core.authn_users.line
                right = await line.work(credentials.peer_host, self._hasher.verify, password, kept)
            except LoginsBusy:
                self._tell_busy()
                return self._busy
            if user is not None:
                user = self._user_of(credentials)
                right = right and user is not None and user.secret == kept  # it may have been changed meanwhile
        if user is None:
            return None
        if not right:
            # Where both its user name and its client id are known, one right password is enough, as in EMQX 4.
            return None if self.core.authn_users.knows_behind(self, credentials) else self._refused
        return self._superuser if user.is_superuser else self._user

    def _user_of(self, credentials: Credentials) -> User[PasswordHash] | None:
        user_id = credentials.client_id if self._by_client_id else credentials.username
        return None if user_id is None else self.users.all.get(user_id)

    def _tell_busy(self) -> None:
        self._turned_away += 1
        now = trio.current_time()
        if now >= self._tell_at:
            self._tell_at = now + TELL_BUSY_EVERY
            log.warning(
                "%s: too many clients wait for their password to be checked, %d were turned away so far",
                self.id,
                self._turned_away,
            )

    # -- users --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self.config.bootstrap_file:
            await self._bootstrap(self.config.bootstrap_file)

    async def secret_of(self, password: str) -> PasswordHash:
        try:
            raw = password.encode()
        except UnicodeEncodeError:
            raise PasswordError("a password is Unicode text") from None
        if len(raw) > LONGEST_PASSWORD:
            raise PasswordError(f"a password has at most {LONGEST_PASSWORD} bytes")
        self._hasher.check(raw)
        if not self._hasher.is_slow:
            await trio.lowlevel.checkpoint()
            return self._hasher.made(raw)
        return await in_thread(self._hasher.made, raw, limiter=self.core.authn_users.thread)

    async def import_users(self, rows: Sequence[UserRow], kind: PasswordType) -> ImportCounts:
        if not rows:
            raise UserFileError(EMPTY_USERS)
        counts = await self._put_all(await self._users_of(rows, kind))
        log.info(
            "%s: users were imported: %d new, %d replaced, %d as they were",
            self.id,
            counts.success,
            counts.override,
            counts.skipped,
        )
        return counts

    async def _bootstrap(self, path: str) -> None:
        """Those that are not there yet. What is durable when is no question here: they come again."""
        kind: PasswordType = self.config.bootstrap_type
        try:
            content = await in_thread(_content, path)
            rows = await in_thread(rows_of_file, path, content, kind)
            new = [row for row in rows if row.user_id not in self.users.all]
            counts = await self.users.put_all(await self._users_of(new, kind), override=False)
        except UserFileError as error:
            raise ConfigError(f"authentication.{self.id}.bootstrap_file", f"{path}: {error}") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise ConfigError(f"authentication.{self.id}.bootstrap_file", f"{path}: {why}") from None
        log.info("%s: %d of %d users of %s are new", self.id, counts.success, len(rows), path)

    async def _users_of(self, rows: Sequence[UserRow], kind: PasswordType) -> list[User[PasswordHash]]:
        """Raises UserFileError before the first slow hash is made."""
        await self._check(rows, kind)
        users: list[User[PasswordHash]] = []
        told = trio.current_time()
        for number, row in enumerate(rows, 1):
            secret = await self._renewed(row) if kind == "plain" else PasswordHash(row.secret, row.salt)
            users.append(User(row.user_id, secret, row.is_superuser))
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()
            if trio.current_time() - told >= TELL_EVERY:
                told = trio.current_time()
                log.info("%s: %d of %d passwords are hashed", self.id, number, len(rows))
        return users

    async def _check(self, rows: Sequence[UserRow], kind: PasswordType) -> None:
        unusable = 0
        for number, row in enumerate(rows, 1):
            if kind == "plain":
                try:
                    self._hasher.check(row.secret.encode())
                except PasswordError as error:
                    raise UserFileError(BAD_FORMAT, str(error), row.place) from None
            elif not self._hasher.fits(PasswordHash(row.secret, row.salt)):
                unusable += 1
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        if unusable:
            log.warning("%s: %d hashes are none of %s: no password fits them", self.id, unusable, self._hasher.name)

    async def _renewed(self, row: UserRow) -> PasswordHash:
        """The hash that is there already, if it is one of the same password."""
        there = self.users.all.get(row.user_id)
        raw = row.secret.encode()
        if not self._hasher.is_slow:
            return self._same_or_new(raw, there)
        return await in_thread(self._same_or_new, raw, there, limiter=self.core.authn_users.thread)

    def _same_or_new(self, password: bytes, there: User[PasswordHash] | None) -> PasswordHash:
        if there is not None and self._hasher.verify(password, there.secret):
            return there.secret
        return self._hasher.made(password)


def _content(path: str) -> bytes:
    """Raises OSError, UserFileError."""
    try:
        content = read_plain_file(path, LARGEST_FILE + 1)
    except IsADirectoryError:
        raise UserFileError(BAD_FORMAT, "it is no plain file") from None
    if len(content) > LARGEST_FILE:
        raise UserFileError(BAD_FORMAT, f"it is larger than {LARGEST_FILE // (1024 * 1024)} MB")
    return content
