"""A first schema, guessed from a file, for a person to correct and confirm."""
