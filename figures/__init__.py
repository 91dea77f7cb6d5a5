"""Figures: drawn from the studies' rows, one file a figure; nothing is computed here."""
