"""A small plant of real servers on real interfaces, for the demo and for the ledger tests.

`network` gives hosts with addresses, `servers` puts real daemons on them, `clients` does real work and keeps a `ledger`
of what it did, which the store's sums must equal. Everything lives in one temporary folder, listens only inside its own
network namespaces (or on 127.0.0.0/8), and ends with the context manager that started it.
"""
