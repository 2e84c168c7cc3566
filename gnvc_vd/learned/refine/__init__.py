"""The refiner, which moves decoded latents towards clean ones by flow matching."""
