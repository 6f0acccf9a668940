"""Attacks: from the answers of reference models and of a target to one score a record; larger means member."""
