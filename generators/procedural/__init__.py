"""The procedural city: streets, lots and traffic drawn from a seed, as labelled 4D occupancy."""
