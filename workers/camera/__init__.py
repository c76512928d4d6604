"""Camera worker. Stages: source -> planner -> decoder -> encoder -> latest-frame slot -> uplink -> results -> Redis."""
