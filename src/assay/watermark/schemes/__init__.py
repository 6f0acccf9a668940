"""Watermark schemes: one file a family; :mod:`.base` says what a scheme answers."""
