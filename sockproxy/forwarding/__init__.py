"""Carrying bytes between clients and the engine: asyncio and sockets, no rules."""
