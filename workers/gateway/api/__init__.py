"""HTTP API: routes, schemas, authentication and errors."""
