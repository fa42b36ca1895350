"""Programs for whoever works on the project; nothing of the server imports them."""
