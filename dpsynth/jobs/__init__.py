"""One file for each thing that a person asks for: the only place where models and evaluation meet."""
