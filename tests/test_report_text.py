from unitrow.report.text import decoder_name, escape, size, sparkline


def test_names_from_files_cannot_act_on_a_terminal():
    assert escape("W_dec") == "W_dec"
    assert escape("a\x1b[31mb") == "a\\x1b[31mb"
    assert escape("\u202eevil") == "\\u202eevil"
    assert escape("two\nlines") == "two\\x0alines"
    assert escape(b"\xff.npz".decode(errors="surrogateescape")) == "\\udcff.npz"
    assert escape("größe") == "größe"


def test_sizes_are_decimal():
    assert [size(count) for count in (0, 999, 1000, 1_200_000_000, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 GB",
        "3.0 TB",
    ]


def test_a_sparkline_shows_each_occupied_bin():
    assert sparkline([0, 1, 1000, 0], cells=4) == " ▁█ "
    assert sparkline([], cells=4) == ""
    assert sparkline([0, 0], cells=2) == "  "
    assert len(sparkline(list(range(32)), cells=16)) == 16
    assert sparkline([5], ascii_only=True).isascii()


def test_a_decoder_is_named_with_its_axis_where_that_is_not_the_first():
    decoder = {"tensor": "W_dec", "dtype": "F32", "shape": [1024, 384], "latent_axis": 0}
    assert decoder_name(decoder) == "W_dec F32 1024×384"
    assert decoder_name({**decoder, "latent_axis": 1}) == "W_dec F32 1024×384 [axis 1]"
