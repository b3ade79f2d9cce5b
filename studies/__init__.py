"""Studies of what the methods do on problems whose answer is known."""
