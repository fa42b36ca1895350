"""Local servers on loopback that imitate outside services, with their faults."""
