"""How much of the model is trained, and how the result becomes a plain model again. One file a method."""
