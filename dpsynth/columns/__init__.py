"""One column by itself: its kind, how a value is typed, its steps and cells, and conditions on it."""
