"""One camera's worker: source -> planner -> encoder -> mailbox -> uplink -> results -> Redis."""
