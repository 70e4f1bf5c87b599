"""The CuPy backend and its kernels."""
