"""From decoded frames to JPEG: color range, privacy masks, and compression."""
