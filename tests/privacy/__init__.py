"""Tests of the trusted kernel."""
