"""Programs for developers of the project; nothing of the server imports them."""
