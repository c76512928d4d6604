"""ONVIF client of a camera: its media profiles, the addresses of its streams, and its motion events."""
