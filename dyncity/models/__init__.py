"""The networks: plain single-device torch. ``vae.py`` and ``dit.py`` read from top to bottom."""
