"""Real data and models for tests, made from packages of public registries."""
