"""Published results measured again: one folder a paper, one command for all of them.

``python -m reproductions PAPER --tier cpu`` from the root of the repository; see README.md.
"""
