"""Metrics of the hub: catalogue, counting and snapshots."""
