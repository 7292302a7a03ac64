"""Readers: corpora, the torch data set of their clips, and driving logs."""
