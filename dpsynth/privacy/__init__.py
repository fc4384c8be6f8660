"""The trusted kernel: the only code that reads private values."""
