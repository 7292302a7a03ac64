"""The VAE and DiT loops, plain torch; ``launch.py`` runs them on Ray Train."""
