"""The project's own lint for names, prose and links. `python -m tests.lint` exits with 1 if it finds a violation."""
