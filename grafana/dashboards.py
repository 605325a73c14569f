"""Which dashboards there are, and writing them: `python -m grafana.dashboards` from the project's folder."""

from pathlib import Path

from grafana import audit, kubernetes, overview
from grafana.building import build
from grafana.shapes import Board

FOLDER = Path(__file__).parent
BOARDS = (overview.BOARD, audit.BOARD, kubernetes.BOARD)


def file_of(board: Board) -> Path:
    """Where a dashboard's JSON is."""
    return FOLDER / f"{board.uid}.json"


if __name__ == "__main__":
    for board in BOARDS:
        file_of(board).write_text(build(board), encoding="utf-8")
        print(f"{file_of(board).relative_to(FOLDER.parent)}: {len(board.panels)} panels")
