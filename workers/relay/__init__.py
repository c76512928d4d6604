"""Tells the rest of a fleet, through Redis, what the supervisor of one group tells its overseers."""
