"""The command line, and its options of GVC."""
