"""Measuring this project beside others: what ``tools/benchmark.py`` runs."""
