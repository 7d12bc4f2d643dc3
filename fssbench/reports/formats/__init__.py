"""Tables as markdown, LaTeX, HTML."""
