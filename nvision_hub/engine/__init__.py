"""Groups of cameras on the machines of a Ray cluster: Ray places, restarts and moves them; each runs an ordinary hub.

Nothing outside of this package imports Ray, and a hub of one machine imports nothing of this package.
"""
