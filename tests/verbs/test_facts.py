import shlex

from warmstart.core.options import AdaptOptions
from warmstart.verbs.facts import command_line


def test_a_command_line_repeats_what_was_given():
    given = AdaptOptions(
        data="my rows.csv", output_dir="out", template=("a {}", "the {}"), time_budget=60.0, bf16="true", resume=True
    )
    assert shlex.split(command_line("adapt", given)) == [
        *("warmstart", "adapt", "--data", "my rows.csv", "--template", "a {}", "--template", "the {}"),
        *("--bf16", "true", "--time-budget", "60", "--output-dir", "out"),
    ]
