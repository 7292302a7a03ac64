"""The checkpoints that the package ships."""
