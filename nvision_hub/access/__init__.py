"""Access to the gateway: roles, tokens, and the audit log. The gateway and the command line share this package."""
