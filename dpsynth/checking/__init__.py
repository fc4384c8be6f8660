"""Data held against a schema: every fault of columns, rows, units and images, with the lines where they stand."""
