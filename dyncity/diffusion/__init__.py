"""Objectives and samplers over latent rollouts."""
