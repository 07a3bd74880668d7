"""The command `warmstart`: its verbs, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from warmstart.cli.commands import command
from warmstart.core import contrast_options as c
from warmstart.core import encode_options as e
from warmstart.core import index_options as i
from warmstart.core import options as o
from warmstart.core import ranker_options as r
from warmstart.core import serving_options as s
from warmstart.core.errors import SettingError, WarmstartError
from warmstart.core.two_tower_options import ContrastTwoTowerOptions

_EPILOG = "Exit codes: 0 done, 1 failed, 2 something in the call, the data or the machine must change, 130 interrupted."
app = typer.Typer(
    name="warmstart",
    help="Start from what a model already knows: measure, choose how to adapt it, do it, and prove the choice.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


_DISTRIBUTED = ("adapt", "contrast_sentences", "contrast_clip", "contrast_simclr")


def _runner(module: str, name: str) -> Callable[[dict[str, Any], bool, bool], None]:
    """Call a verb, then print what it gave. Both are imported only now, so that --help stays quick."""

    def run(values: dict[str, Any], as_json: bool, verbose: bool) -> None:
        import importlib

        from warmstart.cli import show
        from warmstart.cli.console import ConsoleReporter
        from warmstart.core.progress import use_reporter
        from warmstart.verbs.processes import is_follower, world_size

        if not is_follower():
            use_reporter(ConsoleReporter())
        if world_size() > 1 and name not in _DISTRIBUTED:
            together = ", ".join(_DISTRIBUTED).replace("_", " ")
            raise SettingError(f"{name} runs in one process; torchrun is for {together}.")
        if values.pop("scorecard", False):  # advise --scorecard: another question, with an answer of another kind
            told = importlib.import_module("warmstart.verbs.scorecard").scorecard(cache_dir=values["cache_dir"])
            answer = "scorecard"
        else:
            told, answer = getattr(importlib.import_module(module), name)(**values), name
        if is_follower():
            return
        if as_json:
            sys.stdout.write(told.to_json() + "\n")
        else:
            getattr(show, f"show_{answer}")(told, verbose)

    return run


_VERBS: tuple[tuple[str, type[Any], str], ...] = (
    ("adapt", o.AdaptOptions, "Adapt a pretrained model to labelled data, and prove that it was worth it."),
    ("compare", o.CompareOptions, "Run the strategies side by side: equal seconds, paired seeds, one table."),
    ("advise", o.AdviseOptions, "Measure the situation and say which strategy fits, at what cost, and why."),
    ("predict", o.PredictOptions, "Predict every row of a file with a result of adapt."),
    ("push", o.PushOptions, "Upload a result to the Hub, after proving that it reloads."),
    ("groups", o.GroupsOptions, "List a model's layer groups, input to output, with sizes and rates."),
    ("sample", o.SampleOptions, "Write a sample data set to a file, to try things with."),
)
for _name, _options, _text in _VERBS:
    app.command(_name)(command(_options, _runner(f"warmstart.verbs.{_name}", _name), _text))

_CONTRAST: tuple[tuple[str, type[Any], str, str], ...] = (
    (
        "simclr",
        c.ContrastSimclrOptions,
        "Train an image encoder on images without labels.",
        "warmstart.verbs.contrast_simclr",
    ),
    (
        "sentences",
        c.ContrastSentencesOptions,
        "Train a sentence encoder on pairs, triplets or labelled groups.",
        "warmstart.verbs.contrast",
    ),
    (
        "clip",
        c.ContrastClipOptions,
        "Train an image encoder and a text encoder on captioned images.",
        "warmstart.verbs.contrast_clip",
    ),
    (
        "two-tower",
        ContrastTwoTowerOptions,
        "Train a user tower and an item tower on who took what and when.",
        "warmstart.verbs.contrast_two_tower",
    ),
)
_contrast = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train encoders by contrast: what belongs together is drawn together.",
)
for _name, _options, _text, _module in _CONTRAST:
    _contrast.command(_name)(command(_options, _runner(_module, f"contrast_{_name.replace('-', '_')}"), _text))
app.add_typer(_contrast, name="contrast")

_INDEX: tuple[tuple[str, type[Any], str], ...] = (
    ("encode", e.IndexEncodeOptions, "Encode items into a folder of vectors, or bring one up to date."),
    ("build", i.IndexBuildOptions, "Build an index of vectors."),
    ("tune", i.IndexTuneOptions, "Build the cheapest index that reaches a recall within a latency, or refuse."),
    ("search", i.IndexSearchOptions, "Find the nearest items of each query; show them, or write them to a file."),
    ("add", i.IndexAddOptions, "Add vectors to an index, or replace some."),
    ("delete", i.IndexDeleteOptions, "Delete vectors from an index."),
    ("publish", s.IndexPublishOptions, "Make towers, their index and a ranker the bundle that serves, in one step."),
    ("rollback", s.IndexRollbackOptions, "Make an earlier version of a bundle serve again."),
    ("versions", s.IndexVersionsOptions, "List the versions of a bundle."),
)
_index = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Find the nearest of many vectors: exactly, or as nearly and as quickly as you ask for.",
)
for _name, _options, _text in _INDEX:
    _index.command(_name)(command(_options, _runner(f"warmstart.verbs.index_{_name}", f"index_{_name}"), _text))
app.add_typer(_index, name="index")

app.command("recommend")(
    command(
        s.RecommendOptions,
        _runner("warmstart.verbs.recommend", "recommend"),
        "Recommend items to a user, to somebody new, or to many users, from a published bundle.",
    )
)
app.command("ranker")(
    command(
        r.RankerOptions,
        _runner("warmstart.verbs.ranker", "ranker"),
        "Train a transformer that puts the candidates of two towers in a better order.",
    )
)


def _version(value: bool) -> None:
    if value:
        from warmstart import __version__

        sys.stdout.write(f"warmstart {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_version, is_eager=True),
) -> None:
    """Options of warmstart itself."""


def _quieten() -> None:
    """Only warmstart's own lines: the libraries' bars and advice are not the user's business."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)


def run(arguments: list[str] | None = None) -> None:
    """Entry point: run a command and exit with its code; a user's mistake is one line, never a traceback."""
    _quieten()
    try:
        app(args=arguments, standalone_mode=True)
    except WarmstartError as error:
        _fail(str(error), error.exit_code)
    except SystemExit as done:
        if done.code == 130:  # what typer makes of Ctrl-C
            _fail("Stopped. An unfinished run goes on with --resume.", 130)
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        _fail(f"{error.strerror}{f': {error.filename}' if error.filename else ''}.", 1)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"Error: {' '.join(message.split())}\n")
    sys.exit(code)
