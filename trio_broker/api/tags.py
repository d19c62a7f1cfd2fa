"""The tags that dashboard users have in the older generations, where they are all that is known of a user's rights.

Invariant: they are kept as the description. Who is made with the tag `viewer` is one, and everybody else an
administrator; later on only tags that name a role, or named one, change it.
"""

from __future__ import annotations

import re
from typing import Final

from trio_broker.actors.api_keys import Role
from trio_broker.actors.dashboard_users import FIRST, RENEWED, DashboardUser, DashboardUsers

__all__ = ["retag", "role_of", "tags_of"]

_BETWEEN: Final = re.compile(r"[,;\s]+")


def tags_of(user: DashboardUser) -> str:
    """The role stands for them where nobody has described the user."""
    return user.role.value if user.description in ("", FIRST, RENEWED) else user.description


def role_of(tags: str) -> Role:
    """For a new user with these."""
    return _named(tags) or Role.ADMINISTRATOR


async def retag(users: DashboardUsers, username: str, tags: str) -> DashboardUser | None:
    """None: there is no such user. Raises UserError.

    What comes back as it was shown changes nothing. Without the tag `viewer`, who had it is an administrator; a viewer
    whose description is another text stays one.
    """
    user = users.get(username)
    if user is None or tags_of(user) == tags:
        return user
    role = _named(tags)
    if role is None and _named(tags_of(user)) is Role.VIEWER:
        role = Role.ADMINISTRATOR
    return await users.update(username, tags, role)


def _named(tags: str) -> Role | None:
    """The role among them, the weaker one of two."""
    words = _BETWEEN.split(tags.lower())
    return next((role for role in (Role.VIEWER, Role.ADMINISTRATOR) if role.value in words), None)
