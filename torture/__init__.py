"""Torture: the broker is killed at random moments under load, and what it acknowledged must be there again."""
