"""The engine, as the proxy itself has to do with it. Begin at `engine`, its connections; `asking` is how it is asked something
by us, `containers` asks it who a client is, `hostpaths` looks at the files that it shares with us."""
