"""What is managed over REST and has to be there after a restart: small JSON values by kind and key.

Invariant: what is in here is what the store will have once its ticket is done; nobody but this writes documents.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from trio_broker.store.operations import DeleteDocument, PutDocument
from trio_broker.store.store import Store

log = logging.getLogger("trio_broker.documents")


class Documents:
    """Plain calls; wait for `core.durable()` before telling anybody that something is done."""

    def __init__(self, store: Store, kept: Iterable[PutDocument] = ()) -> None:
        self._store = store
        self._kinds: dict[str, dict[str, Any]] = {}
        for document in kept:
            try:
                self._kinds.setdefault(document.kind, {})[document.key] = json.loads(document.body)
            except ValueError:
                # Left where it is: whoever wrote it may be able to read it.
                log.error("the %s %r in the store is no JSON: it is left out", document.kind, document.key)

    def of(self, kind: str) -> Mapping[str, Any]:
        """All of one kind by key, in the order in which they were last put when the broker started."""
        return MappingProxyType(self._kinds.get(kind, {}))

    def put(self, kind: str, key: str, body: Any) -> None:
        """Make or replace one; `body` is anything JSON can say, and must not be changed afterwards."""
        self._kinds.setdefault(kind, {})[key] = body
        self._store.write(PutDocument(kind, key, json.dumps(body, ensure_ascii=False, separators=(",", ":"))))

    def delete(self, kind: str, key: str) -> bool:
        """False when there is none."""
        if self._kinds.get(kind, {}).pop(key, None) is None:
            return False
        self._store.write(DeleteDocument(kind, key))
        return True
