"""Language models trained from random weights, through the one training loop."""
