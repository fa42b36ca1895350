"""What comes in and goes out: marshmallow schemas and the error tree."""
