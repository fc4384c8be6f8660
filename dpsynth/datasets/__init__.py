"""Small real cohorts that ship inside the wheel."""
