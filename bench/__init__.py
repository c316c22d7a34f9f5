"""Donjon beside restic and Borg: the same corpora, the same disk, one after the other.

``python -m bench --help`` tells how to run it; ``docs/benchmarks.md`` is what it writes.
"""
