"""Kubernetes manifests, a systemd unit and a Compose file, generated from a cameras.yaml.

The output contains no secrets: a reference to a variable replaces each secret in the file. This package never looks up
the variables and files that supply secrets.
"""
