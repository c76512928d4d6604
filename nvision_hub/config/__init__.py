"""Configuration: reads cameras.yaml, checks it, and converts it into immutable models."""
