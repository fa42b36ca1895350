"""The schemas of requests, responses and messages (marshmallow), and the error tree."""
