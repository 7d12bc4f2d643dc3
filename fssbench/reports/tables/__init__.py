"""Results laid out as tables: cells, sentences, notes; no format."""
