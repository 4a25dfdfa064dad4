"""Neural algorithmic reasoning: encode-process-decode models trained to execute algorithms."""
