"""`push`: a result folder to the Hub, after its round trip was proven again. Rows of the user's data stay here."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from warmstart.core.errors import OutputError, SettingError
from warmstart.core.files import write_text
from warmstart.core.option import verb
from warmstart.core.options import PushOptions
from warmstart.core.progress import reporter
from warmstart.core.records import Record
from warmstart.verbs.predict import RESULTS, load
from warmstart.verbs.round_trip import VERIFICATION, check_round_trip

KEPT_HERE = ("report.html", VERIFICATION)  # they hold rows of the user's data


class Hub(Protocol):
    """The two calls of huggingface_hub.HfApi that are used."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object:
        """Make the repository."""

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> object:
        """Upload a folder as one commit."""


@dataclass(frozen=True)
class PushSummary(Record):
    """What was uploaded, and where."""

    repo_id: str
    files: tuple[str, ...]
    kept_here: tuple[str, ...]
    difference: float


@verb(PushOptions)
def push(options: PushOptions) -> PushSummary:
    """Upload a result to the Hub. The report and the examples of mistakes are not uploaded.

    Raises:
        ResultError: the result is not whole.
        RoundTripError: loaded in a new process, it does not give the logits that were tested.
        OutputError: the Hub refused or cannot be reached.
    """
    import huggingface_hub

    return push_folder(options, huggingface_hub.HfApi())


def push_folder(options: PushOptions, hub: Hub) -> PushSummary:
    """`push`, with the Hub handed in."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", options.repo_id):
        raise SettingError(f"{options.repo_id!r} is not a repository name; it must look like user/name.")
    found = load(options.result)
    reporter().say("Checking that the folder gives the tested logits in a new process …")
    difference = check_round_trip(found.folder)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "upload"
        shutil.copytree(found.folder, folder, ignore=shutil.ignore_patterns(*KEPT_HERE))
        files = {name: value for name, value in found.record.files.items() if name not in KEPT_HERE}
        record = dataclasses.replace(found.record, mistakes=(), command="", files=files)
        write_text(folder / RESULTS, record.to_json())
        try:
            hub.create_repo(options.repo_id, private=options.private, exist_ok=True)
            hub.upload_folder(repo_id=options.repo_id, folder_path=str(folder), commit_message=options.commit_message)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OutputError(f"The Hub did not take {options.repo_id}: {reason}. `hf auth login` logs in.") from error
        names = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
    return PushSummary(options.repo_id, names, KEPT_HERE, difference)
