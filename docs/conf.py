"""How the guide is built. The tables of methods come from their cards, so they cannot go stale."""

from __future__ import annotations

from assay import __version__
from assay.cli.output import byline
from assay.core.methods import cards

project = "Assay"
author = "The Assay developers"
copyright = author
release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
suppress_warnings = ["toc.empty_glob"]

html_theme = "furo"
html_title = f"Assay {release}"

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3


def method_table(kind: str) -> str:
    """A Markdown table of every method of one kind."""
    rows = ["| name | what it does | source |", "|---|---|---|"]
    for card in cards(kind):
        source = "common practice"
        if card.citation is not None:
            paper = f"https://arxiv.org/abs/{card.citation.arxiv}" if card.citation.arxiv else ""
            source = f"[{byline(card.citation)}]({paper})" if paper else byline(card.citation)
        rows.append(f"| `{card.name}` | {card.summary} | {source} |")
    return "\n".join(rows)


myst_substitutions = {
    f"{kind}s": method_table(kind)
    for kind in ("probe", "attack", "objective", "recipe", "inference", "watermark", "edit")
}
