"""GIT as a graph of tensors: each with its inputs and the recipe that computes it."""
