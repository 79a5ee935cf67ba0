"""What train.py, detect.py and benchmark.py share: presets, model folder, checkpoints, one query."""
