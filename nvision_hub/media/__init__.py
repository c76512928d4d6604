"""From a camera to JPEG frames: sources, decoding on demand, encoding."""
