"""`python -m unitrow`."""

from unitrow.cli import main

main(prog_name="unitrow")
