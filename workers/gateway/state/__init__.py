"""State of the hub as the gateway knows it: processes, metrics, histories, events and other hubs."""
