"""The program at one boundary, which publishes what its collectors saw; `hopwatch watch` does so in one process."""
