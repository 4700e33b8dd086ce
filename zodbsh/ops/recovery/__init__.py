"""Recovering a damaged file."""
