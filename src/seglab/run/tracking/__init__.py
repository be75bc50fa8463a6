"""What is told of a run while it goes on: W&B, metrics.jsonl, the dashboard."""
