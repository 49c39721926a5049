"""Nodes and networks that are dead at birth."""
