"""Training on patients."""
