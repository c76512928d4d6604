"""Worker that runs the embedded broker."""
