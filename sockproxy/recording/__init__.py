"""What is told of an exchange: audit trail and metrics, plain functions of an `Exchange`."""
