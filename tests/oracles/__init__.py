"""Independent implementations as oracles; of whatever is not installed, nothing is asked (make oracles)."""
