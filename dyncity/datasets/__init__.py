"""Readers: corpora, the torch data set of their clips, driving logs, and native trees of data sets."""
