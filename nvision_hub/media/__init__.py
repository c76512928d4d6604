"""Path from a camera to JPEG frames: sources, decoding on demand, and encoding."""
