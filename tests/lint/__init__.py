"""The project's own lint for names and prose. `python -m tests.lint` exits with 1 if it finds a violation."""
