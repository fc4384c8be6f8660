"""Models of a patient table."""
