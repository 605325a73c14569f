"""The demo engine: an imitation of the Docker Engine's API in memory, without root, images or containers of its own.

Real clients (the docker command, docker-py, aiodocker) work against it, so that the proxy can be tried and tested where
no engine is. Begin at `engine.start_demo_engine`; the rooms from the outside in:

    engine      the listening socket, connections with half-close, one dispatch for all requests
    routes      the engine's route table and path rules; answers, calls: what goes in and out of an operation
    api_*       the operations, one file for each kind of resource; hijack: a connection taken over
    lifecycle   what happens to containers and execs; state: what there is; describe: how it looks as JSON
    process     a running program with its terminal; programs, commands_*, shell*: what can be run
    pipes, journal, files: what surrounds a program

The tour (`tour`) is a client like any other.

Must not know the proxy: it stands where dockerd stands. Its answers were compared with dockerd 20.10 (API 1.41).
"""
