"""Tests of several hospitals that answer as one."""
