"""The inspection station: photographs come in, verdicts go out, nothing is lost."""
