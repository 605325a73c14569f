"""The command line: what people and scripts type.

Begin at `root.py`: the table of commands, and the one border at which an exception becomes a line and an exit code.
Every other file is one group of commands, imported only when one of them is asked for: `explaining` (explain),
`testing` (test), `comparing` (matrix, diff, versions), `checking` (check, schema), `learning` (learn), `importing` (import),
`audit` (verify, show, summary), `running` (serve, demo).
`parameters` turns words into values, `tables` fits rows to a terminal, `exits` has the exit codes; all know no command.
Must not decide anything itself: what is allowed is asked of `judging`, what is configured of `operating.config`.
Ruled by: DESIGN, "The command line" (names, options, exit codes and machine formats are a contract).
"""
