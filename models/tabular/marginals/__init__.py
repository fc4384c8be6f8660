"""What the models of noisy marginals share: binning, one-way answers, interactions, plans and fits."""
