"""Networks for tables, trained privately: `ctgan`, `tvae`, `tabular-diffusion`, `pate-gan`; they need torch."""
