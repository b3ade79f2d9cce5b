"""Training the walkers' experts, who generate data in ant and humanoid mazes."""
