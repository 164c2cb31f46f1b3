"""Speed of this project next to its peers: what ``python -m benchmarks`` runs; not installed."""
