"""Objectives of attacks: what an adversary pushes up, one file a task; ``registry`` knows them all."""
