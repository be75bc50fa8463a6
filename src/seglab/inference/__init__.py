"""From a trained network to the labels of a whole case."""
