"""What every request goes through: routes, access, limits, bodies, answers."""
