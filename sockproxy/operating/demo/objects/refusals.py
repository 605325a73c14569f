"""What the engine refuses, in its own words and statuses.

Owns the texts. `Refused` is raised by operations and answered by `answers.refusal`. Texts and statuses as dockerd 20.10
gave them when it was asked.
"""


class Refused(Exception):
    """An operation that cannot be done: the status that answers it and the message for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def no_such_container(name: str) -> Refused:
    return Refused(404, f"No such container: {name}")


def no_such_exec(name: str) -> Refused:
    return Refused(404, f"No such exec instance: {name}")


def no_such_image(reference: str) -> Refused:
    return Refused(404, f"No such image: {reference}")


def no_such_network(name: str) -> Refused:
    return Refused(404, f"network {name} not found")


def no_such_volume(name: str) -> Refused:
    return Refused(404, f"get {name}: no such volume" if name else "get: no such volume")


def ambiguous(prefix: str) -> Refused:
    return Refused(500, f"Multiple IDs found with provided prefix: {prefix}")


def not_running(container_id: str) -> Refused:
    return Refused(409, f"Container {container_id} is not running")


def name_in_use(name: str, container_id: str) -> Refused:
    return Refused(
        409,
        f'Conflict. The container name "/{name}" is already in use by container "{container_id}". '
        "You have to remove (or rename) that container to be able to reuse that name.",
    )


def cannot_run(program: str) -> Refused:
    return Refused(
        400, f"failed to create shim task: OCI runtime create failed: runc create failed: {no_program(program)}"
    )


def no_program(program: str) -> str:
    return f'unable to start container process: exec: "{program}": executable file not found in $PATH: unknown'


def too_many(things: str) -> Refused:
    return Refused(507, f"the demo engine holds no more {things}")


def not_imitated(operation: str) -> Refused:
    return Refused(501, f"{operation} is not imitated by the demo engine")
