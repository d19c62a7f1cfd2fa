"""Authentication as it is configured: the chain, and a module for each kind of authenticator.

Invariant: an authenticator is made of its configuration and the core, and holds no connection, task or file once it was
closed.
"""
