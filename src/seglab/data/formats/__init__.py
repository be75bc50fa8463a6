"""File formats: each reads an array with its geometry and writes labels back onto the same grid."""
