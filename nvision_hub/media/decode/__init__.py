"""Selection and decoding of packets."""
