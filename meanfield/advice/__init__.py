"""Which initialisation for which depth, and the code that draws it."""
