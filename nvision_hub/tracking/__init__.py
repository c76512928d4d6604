"""Tracking, from results to tracks: association, lifecycle, zones and lines. Uses no Redis, sockets or clock."""
