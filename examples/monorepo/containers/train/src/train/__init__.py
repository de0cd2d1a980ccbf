"""Fits how much a customer will spend."""
