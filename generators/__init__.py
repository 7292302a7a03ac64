"""Sources of scenes, and the engine that makes a corpus of them."""
