"""The screens, one module each: from what is asked to a Page."""
