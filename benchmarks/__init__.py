"""Benchmarks: programs to run by hand or with `make bench`. Nothing in `trio_broker` imports them."""
