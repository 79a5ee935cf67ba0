"""The paper's tables: jobs as plain data, engines that run them, tables of their results.

    quoted.py       published figures, to stand beside ours
    plan.py         axes of the grid -> jobs
    job.py          what one job does: train(), detect(), pose errors (poses.py)
    run.py          all jobs: on this machine or on a Ray cluster, resumable
    results.py      results of the jobs -> data frames
    tables.py       data frames -> tables; figure_3.py
    anomalib_baselines.py   methods of the package anomalib on the same images

Unlike the other packages, this one may import the scripts.
"""
