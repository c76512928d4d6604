"""Decisions about when to send how many images: periods, schedules, budgets, and fair shares. Performs no I/O."""
