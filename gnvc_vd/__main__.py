"""`python -m gnvc_vd` is `gnvc-vd`."""

from gnvc_vd.cli.main import main

raise SystemExit(main())
