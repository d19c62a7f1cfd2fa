"""The commands that look after a store: one file a command.

Invariant: none of them starts a broker; what goes wrong is a StoreError of one line, and leaves everything as it was.
"""
