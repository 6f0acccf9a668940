"""Dense data: images with a class or a depth for every pixel."""
