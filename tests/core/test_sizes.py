import pytest

from warmstart.core.errors import SettingError
from warmstart.core.sizes import read_bytes, show_bytes, show_parameters


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 * 10**9),
        ("24 GiB", 24 * 2**30),
        ("1.5gb", 15 * 10**8),
        ("800M", 8 * 10**8),
        ("12", 12),
        ("1TB", 10**12),
    ],
)
def test_read(text, size):
    assert read_bytes(text, "--device-memory") == size


@pytest.mark.parametrize("text", ["", "lots", "24 apples", "-3GB", "0GB", "GB", "1e9"])
def test_what_is_no_size_is_refused_by_name(text):
    with pytest.raises(SettingError, match=r"--device-memory is .* such as 24GB"):
        read_bytes(text, "--device-memory")


def test_show():
    shown = [show_bytes(size) for size in (0, 999, 1500, 24e9, 282.2e9, 1.5e12)]
    assert shown == ["0 B", "999 B", "1.5 kB", "24.0 GB", "282 GB", "1.5 TB"]


def test_show_parameters():
    shown = [show_parameters(count) for count in (12, 4_200, 22.7e6, 999e6, 69.5e9, 282e9)]
    assert shown == [
        "12 parameters",
        "4.2 thousand parameters",
        "22.7 million parameters",
        "1.0 billion parameters",
        "69.5 billion parameters",
        "282 billion parameters",
    ]
