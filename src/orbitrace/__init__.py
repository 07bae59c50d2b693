"""OrbiTrace: from raw DFT outputs to the bands of structures that DFT cannot reach."""

__version__ = "0.1.0"
