"""Decisions about how many images are sent and when: periods, schedules, budgets, and fair shares. Performs no I/O."""
