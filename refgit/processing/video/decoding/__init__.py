"""A video file to frames: what its packets say, and decoding as little as the frames need."""
