"""Performance: how often the model is right on unchanged inputs, for whom, and whether it knows."""

METHODS = ("clean_accuracy", "calibration")
