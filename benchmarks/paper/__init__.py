"""The benchmark: jobs as plain data, engines that run them, tables made of their results.

Unlike the other packages, this one may import the scripts: a job calls train() and detect().
"""
