"""Runs the CUDA kernels of the submodules on the CPU, to hold our adapters against them."""
