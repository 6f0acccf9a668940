"""Canaries: query images, optimised on shadow models, that members and non-members answer differently."""
