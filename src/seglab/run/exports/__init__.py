"""Trained networks for other programs and inference engines."""
