"""Synthesizers of tables; none of them needs torch to be installed, unless its name says so."""
