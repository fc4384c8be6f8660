"""Estimates and their intervals: distances, scores, associations, bootstrap and jackknife."""
