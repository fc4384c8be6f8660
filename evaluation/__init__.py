"""Everything that judges a cohort; takes cohorts, never models."""
