"""What the scripts share: presets, the model folder, one inspection, the results."""
