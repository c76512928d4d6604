"""The checks of `doctor`: each finds one thing out, and returns it with its verdict and its mend. None prints."""
