"""Speed and memory beside diffusers, in one process, measured in turns. Not part of the package."""
