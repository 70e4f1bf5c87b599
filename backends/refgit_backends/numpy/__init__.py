"""The NumPy backend and its kernels."""
