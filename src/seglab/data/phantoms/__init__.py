"""Phantoms: deterministic synthetic data in the real file formats."""
