"""The local service: speaks the Nvision protocol and detects for real, without an account or a network."""
