"""The contextual latent codec: latents to integers and back."""
