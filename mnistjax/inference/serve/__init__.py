"""A page that shows what a classifier sees and says, and the little server behind it."""
