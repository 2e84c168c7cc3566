"""What every room uses and nobody of the field looks for: strict parsing, whole files, noise by counter."""
