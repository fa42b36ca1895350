"""The processes: the gateway's assembly and life cycle, the supervisor, e-mail, the demo."""
