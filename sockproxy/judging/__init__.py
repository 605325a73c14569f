"""What is it, who asks, may it pass: frozen values in, frozen values out; no I/O, clock, randomness or logging."""
