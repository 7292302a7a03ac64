"""Measures of reconstructions and of generated scenes that need no pretrained network."""
