"""Metrics of the hub: the catalogue, the meter and snapshots."""
