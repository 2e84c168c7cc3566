"""The refiner: decoded latents towards clean ones, by flow matching."""
