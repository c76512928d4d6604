"""Hubs on several machines: placement of cameras, leases, and the registry of a fleet's hubs in Redis."""
