"""What ``python -m trio_tlsdown`` runs."""

from trio_tlsdown.cli import main

main()
