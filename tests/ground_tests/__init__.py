"""The ground itself is tested where its logic is pure, and once end to end."""
