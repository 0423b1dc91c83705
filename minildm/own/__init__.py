"""One's own pictures: looked at, kept as latents, and trained on."""
