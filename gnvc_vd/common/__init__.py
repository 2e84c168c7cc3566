"""What every folder uses and nobody of the field looks for: strict parsing, whole files, noise by counter."""
