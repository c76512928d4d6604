"""Kubernetes manifests, a systemd unit and a Compose file, generated from a cameras.yaml.

The output contains no secrets. References replace those in the file, and variables for secrets are not looked up.
"""
