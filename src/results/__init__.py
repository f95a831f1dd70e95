"""Runs compared: what they varied, mean and spread over seeds, whether a difference is more than chance."""
