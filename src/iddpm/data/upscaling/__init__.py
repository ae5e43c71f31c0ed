"""Files of any size that are read whole, made finer and written again as what they were."""
