"""Labels, conditions and paired data: what an item comes with beside its values."""
