"""Bytes to packets and back, topics and reason codes: MQTT on the wire, without any I/O.

Invariant: nothing here waits, reads a clock or keeps anything of a session.
"""
