"""Inference over noisy marginals: junction trees, belief propagation, estimation and record generation."""
