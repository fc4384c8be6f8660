"""Broken variants of dpsynth, and the tests that catch them."""
