"""Networks: one file per paper, logits out, no training logic."""
