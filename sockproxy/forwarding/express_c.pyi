from sockproxy.forwarding.readiness import Readiness as Readiness
