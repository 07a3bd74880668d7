"""The whole course of a push, with a stand-in for the Hub that only lists files. `python examples/push.py [RESULT]`.

`warmstart.push(result=…, repo_id=…)` does the same with the real Hub.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import warmstart
from warmstart.core.options import PushOptions
from warmstart.verbs.push import push_folder


class DryRun:
    """Has the two calls of `huggingface_hub.HfApi` that a push makes, and uploads nothing."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object:
        """Say what would be made."""
        print(f"Would make the {'private' if private else 'public'} repository {repo_id}")
        return exist_ok

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> object:
        """List what would be uploaded."""
        print(f"Would upload to {repo_id}, with the message {commit_message!r}:")
        for path in sorted(Path(folder_path).rglob("*")):
            print(f"  {path.relative_to(folder_path)}")
        return None


def main(result: Path) -> None:
    """Push a result nowhere."""
    options = PushOptions(result=str(result), repo_id="user/review-departments", private=True)
    summary = push_folder(options, DryRun())
    print(f"Loaded in a new process, the logits differ by at most {summary.difference:.1e}")
    print(f"Stays here: {', '.join(summary.kept_here)}")


def quick_result() -> Path:
    """A linear probe on a few reviews."""
    result = warmstart.adapt(
        data="sample:reviews",
        drop_invalid=True,
        strategy="linear_probe",
        train_size=150,
        test_size=100,
        output_dir=str(Path(tempfile.mkdtemp()) / "probe"),
    )
    return Path(result.output_dir)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else quick_result())
