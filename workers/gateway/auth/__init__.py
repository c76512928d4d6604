"""Access rights: identification of clients, roles of routes, backoff after failures, and the audit trail."""
