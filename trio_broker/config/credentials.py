"""What names and passwords of dashboard users may be.

Invariant: pure functions; what they say never holds the password.
"""

from __future__ import annotations

import re
import string

_USERNAME = re.compile(r"[A-Za-z0-9_]{1,100}")
_GROUPS = (frozenset(string.ascii_letters), frozenset(string.digits), frozenset(string.punctuation + " "))


def username_fault(username: str) -> str | None:
    """Why this is no user name; None where it is one."""
    if len(username) > 100:
        return "Bad Username. At most 100 characters are supported"
    if not _USERNAME.fullmatch(username):
        return "Bad Username. Only upper and lower case letters, numbers and underscores are supported"
    return None


def password_fault(password: str, *, plain: bool = False) -> str | None:
    """Why this is not good enough for a password; None where it is. `plain`: one kind of characters will do."""
    if not 8 <= len(password) <= 64:
        return "The range of password length is 8~64"
    if not password.isascii() or "\0" in password:
        return "Only ascii characters are allowed in the password"
    if not plain and sum(not group.isdisjoint(password) for group in _GROUPS) < 2:
        return (
            "Bad password. At least two different kind of characters from groups of letters, numbers, and special "
            "characters. For example, if password is composed from letters, it must contain at least one number or a "
            "special character."
        )
    return None
