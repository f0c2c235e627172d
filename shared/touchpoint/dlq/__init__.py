"""Dead letters, as an operator sees and handles them."""
