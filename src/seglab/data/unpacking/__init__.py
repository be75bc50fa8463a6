"""Unpacks boxes of 8- and 16-bit blosc2 arrays, twice to three times as fast as blosc2, and normalises on the way.

blosc2 unpacks into memory of a chunk, copies what is wanted into an array of its own type, and takes 2 us for each
block; what is read then still has to become float32. Here the two bytes of a value go from the unpacked block to the
normalised value that is handed on, and nothing is unpacked behind the last row that is wanted.

Read are files as `seglab.data.arrays` writes them: LZ4, shuffled bytes, the last two axes cut into blocks. Whatever
else a file holds is left to blosc2: the functions say so instead of guessing. No byte outside of the file or of the
memory at hand is touched, whatever the file holds.
"""
