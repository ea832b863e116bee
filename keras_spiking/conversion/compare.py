"""x."""
def compare(): pass
