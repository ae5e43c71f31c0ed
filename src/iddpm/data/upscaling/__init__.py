"""Files of any size that are read whole, upscaled and written again in their own format."""
