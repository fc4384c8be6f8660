"""Counts of tables."""
