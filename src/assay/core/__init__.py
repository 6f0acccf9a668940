"""What a result is: run records, estimates, claims, named seeds, method cards, errors. Never imports torch."""
