"""GNVC-VD, the learned codec."""
