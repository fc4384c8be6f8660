"""What a schema says of its columns."""

DEFAULT_MISSING_VALUES = ("", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
"""How files commonly write a missing value; a declared category of the same spelling goes before."""


IMAGE_COLUMNS = ("image", "patient")
"""Columns that the index of an image cohort adds; no modelled column may have these names beside images."""
