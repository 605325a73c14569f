"""The demo engine: an imitation of the Docker Engine's API in memory, without root, images or containers of its own.

Real clients (the docker command, docker-py, aiodocker) work against it, so that the proxy can be tried and tested where
no engine is. Begin at `engine.start_demo_engine`; from the outside in:

    engine      the listening socket, and one dispatch for all requests; seed: what is there at the start
    api/        requests and answers: connections with half-close, the route table, the operations, hijacked streams
    objects/    containers, execs, images, networks, volumes: what there is, what happens to it, how it looks as JSON
    programs/   what runs in a container: processes with terminal and signals, a shell, the commands of a busybox

The tour (`tour`) is a client like any other. Must not know the proxy: the engine stands where dockerd stands. Its answers
were compared with those of dockerd 20.10 (API 1.41).
"""
