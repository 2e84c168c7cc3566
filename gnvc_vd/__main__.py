"""`python -m gnvc_vd` is `gnvc-vd`."""

from gnvc_vd.cli import main

raise SystemExit(main())
