"""Files that put the hub to work elsewhere: Kubernetes manifests, a systemd unit, a Compose file.

Made from cameras.yaml as it is written: no variable is looked up that may hold a secret, so none can come out.
"""
