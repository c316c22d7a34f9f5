"""The objects of buckets and containers that people keep data in, to be backed up or restored to.

Vaults are in buckets too, but ask other things of them: see ``donjon.stores``.
"""
