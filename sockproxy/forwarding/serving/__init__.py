"""The clients' connections, and every request on them: read, judged, recorded, answered or carried. Begin at `connections`.

Two ways lead through here, and no request sees a difference. The plain way is the story and the reference: `proxy`, which
reads with `intake`, asks with `inquiry`, refuses with `answering` and carries with `roundtrip` (and `tunnel`, `sessions`). The
fast one serves what is `known` already (`express` with its `callers`, and the compiled twin `express_c`), or comes whole
(`direct`). What holds for a client is its gate's (`gates`), what all connections have in common is `shared`.
"""
