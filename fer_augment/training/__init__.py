"""Training: the training loop, training keys and the store of finished trainings."""
