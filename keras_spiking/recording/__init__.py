"""Recordings of what the layers of a model put out over time."""
