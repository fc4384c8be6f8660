"""The metrics: each takes cohorts as arrays and gives results."""
