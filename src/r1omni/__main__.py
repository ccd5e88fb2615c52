from r1omni.cli import main

raise SystemExit(main())
