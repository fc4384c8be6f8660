"""Sums over images."""
