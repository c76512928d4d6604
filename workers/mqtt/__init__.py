"""The bridge to MQTT: the same events, and what state each camera is in, for whoever listens to an MQTT broker."""
