"""Ledger: counts the images of all cameras, and grants images within the budget."""
