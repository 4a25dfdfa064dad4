"""Campaigns: models of many algorithms, variants and seeds, and the table of what they reach."""
