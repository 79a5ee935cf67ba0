"""What the scripts share: presets, model folder, checkpoints, the judgement of one query."""
