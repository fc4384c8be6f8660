"""Cohorts as plain arrays: tables, bins, groups and keys of rows, which every metric works on."""
