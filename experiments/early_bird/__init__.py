"""Early-Bird tickets: retrain accuracy against draw epoch, and the ways to train a ticket."""
