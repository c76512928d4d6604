"""Logging: each child sends its records through a pipe to the supervisor.

The supervisor writes the records to stderr and to one file per process.
"""
