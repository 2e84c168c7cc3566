"""Tables, plots and pages from rate points and from runs."""
