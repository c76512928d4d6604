"""Camera groups on a Ray cluster: Ray places, restarts and moves actors, and each actor runs an ordinary hub.

Only this package imports Ray. A hub on one machine imports nothing from this package.
"""
