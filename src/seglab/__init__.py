"""seglab: train, compare and apply image segmentation networks of the U-Net family."""

__version__ = "0.1.0"
