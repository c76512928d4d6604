"""Relay that publishes the state of one group's processes to the rest of the fleet through Redis."""
