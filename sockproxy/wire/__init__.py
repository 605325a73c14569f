"""Bytes <-> messages, purely: no sockets, no clock, no Docker."""
