"""The image that guests of the docker backend run in."""
