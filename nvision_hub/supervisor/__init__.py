"""Supervision of child processes.

`process_state` holds the state of each process, `policy` decides on actions, and `supervisor` executes the actions.
"""
