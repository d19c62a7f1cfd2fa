"""Clients that show a JSON Web Token in CONNECT (EMQX's `jwt`).

Invariant: a token that no key verifies says nothing about the client; neither a token nor a secret gets into the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from string import punctuation
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import attrs
import trio

from trio_broker.access.authentication import BAD_CREDENTIALS, Credentials, Verdict
from trio_broker.access.templates import Template, TemplateError
from trio_broker.access.tokens import ClaimsPolicy, Key, KeyFault, Token, TokenRefused, pem_key, secret_key
from trio_broker.actors.authn.base import ConfiguredAuthenticator, Status
from trio_broker.actors.authn.key_set import TIMEOUT, KeySet, KeySetFailure
from trio_broker.config.authentication import JwtConfig
from trio_broker.config.files import read_plain_file
from trio_broker.errors import ConfigError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.outbound import Outbound

__all__ = ["JwtAuthenticator"]

log = logging.getLogger("trio_broker.authentication")

LARGEST_FILE: Final = 65_536
"""Bytes of a key file."""
OK: Final = 200
SHORT_SECRET: Final = 32
"""Bytes: a shorter one may be found by trying (RFC 7518, section 3.2)."""


class JwtAuthenticator(ConfiguredAuthenticator):
    """Keys come from the configuration, from a file that is read at the start, or from a web service."""

    config: JwtConfig

    def __init__(self, config: JwtConfig, core: Core, authenticator_id: str) -> None:
        super().__init__(config, core, authenticator_id)
        self._keys: tuple[Key, ...] = ()
        self._key_set: KeySet | None = None
        self._client: Outbound | None = None
        self._policy = ClaimsPolicy()

    @property
    def status(self) -> Status:
        return "connected" if self._key_set is None else self._key_set.status

    async def start(self) -> None:
        config = self.config
        self._policy = ClaimsPolicy(self._required(), config.acl_claim_name, config.disconnect_after_expire)
        if config.use_jwks:
            await self._begin_key_set()
            return
        key = "secret" if config.algorithm == "hmac-based" else "public_key"
        try:
            self._keys = (self._secret() if key == "secret" else await self._public(),)
        except KeyFault as error:
            raise self._fault(key, str(error)) from error

    async def close(self) -> None:
        if self._key_set is not None:
            self._key_set.close()
        if self._client is not None:
            await self._client.close()

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        await trio.lowlevel.checkpoint()  # a signature takes a tenth of a millisecond: others have their turn
        as_username = self.config.from_ == "username"
        data = (credentials.username or "").encode() if as_username else credentials.password
        token = Token.parse(data) if data else None
        if token is None:
            return None
        claims = token.claims(await self._keys_for(token))
        if claims is None:
            log.debug("%s: no key verifies the token of %r", self.id, credentials.client_id)
            return None
        try:
            verdict = self._policy.verdict(claims, self._now(), credentials.value)
        except TokenRefused as error:
            log.info("%s: the token of %r: %s", self.id, credentials.client_id, error)
            return BAD_CREDENTIALS
        return attrs.evolve(verdict, username=_name(claims)) if as_username else verdict

    async def _keys_for(self, token: Token) -> Sequence[Key]:
        """Those of the web service may be new."""
        if self._key_set is None:
            return self._keys
        await self._key_set.first()
        if token.key_id is not None and not token.is_named_in(self._key_set.keys):
            await self._key_set.look_again()
        return self._key_set.keys

    def _now(self) -> float:
        """Seconds since the epoch."""
        clock = self.core.clock
        return clock.wall_ms(clock.now()) / 1000

    def _required(self) -> dict[str, Template]:
        required = {}
        for name, text in self.config.verify_claims.items():
            try:
                required[name] = Template(text)
            except TemplateError as error:
                raise self._fault(f"verify_claims.{name}", str(error)) from error
        return required

    def _secret(self) -> Key:
        key = secret_key(self.config.secret, in_base64=self.config.secret_base64_encoded)
        if len(key.material) < SHORT_SECRET:
            log.warning("%s: the secret has less than %d bytes: it may be guessed", self.id, SHORT_SECRET)
        return key

    async def _public(self) -> Key:
        said = self.config.public_key
        if not said:
            raise KeyFault("is empty")
        if "-----BEGIN" in said:
            return pem_key(said.encode())
        try:
            text = await trio.to_thread.run_sync(_read, said)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a path"
            raise KeyFault(f"{said[:200]!r}: {reason}") from error
        try:
            return pem_key(text)
        except KeyFault as error:
            raise KeyFault(f"{said[:200]!r} {error}") from error

    async def _begin_key_set(self) -> None:
        """The first request is under way when this returns: a service that is away stops nobody from starting."""
        # An HTTP client is loaded only where there is somebody to ask.
        from trio_broker.actors.outbound import Outbound, origin_of

        config = self.config
        try:
            origin_of(config.endpoint)
        except ValueError as error:
            raise self._fault("endpoint", str(error)) from error
        self._client = await Outbound.open(
            config.endpoint,
            self.core.settings.config.outbound,
            config.ssl if config.ssl.enable else None,
            key=f"authentication.{self.id}",
            pool_size=1,
            connect_timeout=TIMEOUT,
            request_timeout=TIMEOUT,
        )
        parts = urlsplit(config.endpoint)
        place = f"{parts.scheme}://{parts.netloc}{parts.path}"  # the query may have a secret
        self._key_set = KeySet(self.core, self.id, place, self._fetch, config.refresh_interval)
        self.resource = self._key_set.figures
        self._key_set.start()

    async def _fetch(self) -> bytes:
        from trio_broker.actors.outbound import Unanswered

        assert self._client is not None
        parts = urlsplit(self.config.endpoint)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [(name.encode(), value.encode()) for name, value in self.config.headers.items()]
        try:
            answer = await self._client.request("GET", quote(target, safe=punctuation).encode(), headers)
        except Unanswered as error:
            raise KeySetFailure(str(error)) from error
        if answer.status != OK:
            raise KeySetFailure(f"its answer has the status {answer.status}")
        return answer.body

    def _fault(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"authentication.{self.id}.{key}", message)


def _read(path: str) -> bytes:
    return read_plain_file(path, LARGEST_FILE)


def _name(claims: Mapping[str, Any]) -> str:
    """What the client is called when its user name was a token, which nobody must see; "" where no claim says."""
    for claim in ("username", "sub"):
        said = claims.get(claim)
        if isinstance(said, str) and "\0" not in said:
            return said
    return ""
