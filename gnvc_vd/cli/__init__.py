"""The command line `gnvc-vd`."""
