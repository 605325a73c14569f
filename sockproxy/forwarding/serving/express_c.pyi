from sockproxy.forwarding.moving import readiness

class Readiness(readiness.Readiness):
    """It has all that the one in Python has, without being one."""

    served_count: int
