"""Kubernetes manifests, a systemd unit and a Compose file, generated from a cameras.yaml.

The output contains no secrets. References to variables replace the secrets in the file, and this package does not look
up the variables and files that supply secrets.
"""
