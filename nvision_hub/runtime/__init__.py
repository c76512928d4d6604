"""One process of the hub: its start, status reports, commands and end."""
