"""Where the camera stood."""
