"""Nvision protocol: the codec for bytes and JSON, the WebSocket client, and its errors."""
