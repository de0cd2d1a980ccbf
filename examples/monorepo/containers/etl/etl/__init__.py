"""Turns raw orders into features per customer."""
