"""What a scene becomes on disk."""
