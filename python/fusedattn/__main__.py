"""__main__.py: `python -m fusedattn` is the command `fusedattn`."""

from fusedattn.cli import main

main()
