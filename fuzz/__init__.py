"""Programs that look for bytes the broker does not stand. Nothing in `trio_broker` imports them."""
