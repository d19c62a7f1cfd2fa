"""The authorization source `file`: rules in EMQX's `acl.conf` form, in the configuration or in a file.

Invariant: a file is read when the source begins, and not looked at again: set the source once more for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_broker.access.acl_file import LONGEST, AclError, read_acl
from trio_broker.access.asking import Request, Subject
from trio_broker.access.authorization import Source
from trio_broker.access.rules import RuleSet
from trio_broker.actors.threads import in_thread
from trio_broker.config.authorization import FileSourceConfig
from trio_broker.config.files import read_plain_file
from trio_broker.errors import ConfigError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["FileSource"]

KEY = "authorization.sources"


class FileSource(Source):
    """What is wrong is told with the file and the line."""

    type = "file"

    def __init__(self, config: FileSourceConfig, core: Core) -> None:
        super().__init__()
        self.config = config
        self.text = config.rules
        """What the rules are."""
        self.rules = RuleSet.nothing()

    async def load(self) -> None:
        # A thread: the file may be long, and where it lies may be slow.
        self.text, self.rules = await in_thread(_load, self.config)

    def authorize(self, subject: Subject, request: Request) -> bool | None:
        return self.rules.decide(subject, request)


def _load(config: FileSourceConfig) -> tuple[str, RuleSet]:
    text = _read(config.path) if config.path else config.rules
    try:
        return text, read_acl(text)
    except AclError as error:
        raise ConfigError(KEY, f"{config.path or 'rules'}, {error}") from None


def _read(path: str) -> str:
    try:
        return read_plain_file(path, 4 * LONGEST + 1).decode()
    except OSError as error:
        raise ConfigError(KEY, f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(KEY, f"{path}: byte {error.start} is no UTF-8") from None
    except ValueError as error:  # what can be no path at all
        raise ConfigError(KEY, f"{path!r}: {error}") from None
