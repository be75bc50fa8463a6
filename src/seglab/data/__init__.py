"""Data: raw files to batches; splits by group, geometry kept."""
