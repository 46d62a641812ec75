"""The proof of exactly-once, for anyone's broker: a producer that keeps a ledger, faults, and a comparison.

``subject`` sets up a product of its own, ``ledger`` produces and remembers, ``workers`` run the steps in processes that
can be killed, ``faults`` are what goes wrong, ``verify`` compares what landed and what is published with the ledger.
"""
