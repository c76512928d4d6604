"""MQTT bridge: publishes results and camera states to an MQTT broker."""
