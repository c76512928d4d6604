"""Who may do what: identification of clients, roles of routes, back-off after failures, and the audit trail."""
