"""What `seglab.data.augment` does to a sample: motion, optics and values, and the compiled loops for 8-bit images."""
