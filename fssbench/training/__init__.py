"""Training: recipes, the stream of episodes, the optimiser step, checkpoints and the loop."""
