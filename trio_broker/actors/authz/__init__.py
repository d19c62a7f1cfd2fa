"""Authorization as it is configured: the sources, and a module for each kind.

Invariant: a source is made of its configuration and the core; what it keeps in the store is its own.
"""
