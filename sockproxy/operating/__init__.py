"""What people touch: configuration, command line, admin listener, demo, and the composition of it all."""
