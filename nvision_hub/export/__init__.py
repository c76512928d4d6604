"""Kubernetes manifests, a systemd unit and a Compose file, generated from a cameras.yaml.

The output contains no secrets. References to variables replace the secrets in the file, and the hub does not look up
variables and files that supply secrets.
"""
