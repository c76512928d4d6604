"""Live view for browsers: WebSocket, previews and snapshots."""
