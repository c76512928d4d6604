"""The gateway: metrics, health, API, the ops page and the callback endpoint, in a process of its own."""
