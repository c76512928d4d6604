"""Posts results to webhooks: one process for all of them, one consumer group and one circuit breaker for each."""
