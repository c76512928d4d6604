"""Configuration: reads and checks cameras.yaml, and converts it into immutable models."""
