"""Edits of text, as attacks on a watermark: one file a method; :mod:`.base` says what an edit does and applies it."""
