"""Side by side: what a request, a byte and an idle stream cost in sockproxy, HAProxy, nginx and a plain aiohttp proxy.

`python -m benchmarks` runs all of it; `--quick` takes less than a minute. Only ratios from one run mean something:
the cost of a system call differs between machines, and between two hours of the same one. The parts, in the order in
which to read them: `__main__` (options), `contest` (the rounds), `scenarios` (what is measured), `proxies` (who is
measured, and how they are configured: haproxy.cfg, nginx.conf, policy.yaml, `aiohttp_proxy`), `load` (the clients),
`engine` (the null engine), `processes` (CPU time and memory from /proc), `report` (medians and tables), `syscalls`
(counts by strace). How the cost grows with the work is a run of its own: `growth` measures, with `rules` for the proxies,
and `picture` draws.
"""
