"""Tests of the empirical audits."""
