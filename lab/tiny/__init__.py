"""The recipe of the shipped model: its material and its trainings."""
