"""What a trained model's states and answers look like."""
