"""The network of the diffusion model: its loss, prior, autoencoder, warm-up and sampler."""
