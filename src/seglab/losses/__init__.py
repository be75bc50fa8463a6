"""Losses on logits; every one honours the ignore index."""
