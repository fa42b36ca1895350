"""Others' servers, to compare with."""
