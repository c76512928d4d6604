"""From results to tracks: association, lifecycle, zones and lines. Pure: no Redis, no sockets, no clock."""
