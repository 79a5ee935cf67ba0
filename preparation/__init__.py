"""The stages of prepare.py: photographs or a video to a posed, isolated capture."""
