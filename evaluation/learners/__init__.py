"""Classifiers and regressors that are trained on one arm and judged on another."""
