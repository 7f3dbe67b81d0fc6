"""The demonstration: `python -m unitrow.training.demo`, or `make demo-train`."""
