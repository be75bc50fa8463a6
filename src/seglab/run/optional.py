"""Packages that come with an extra of seglab, under the name that jobs and plugins use."""

from seglab.extras import require

__all__ = ["require"]
