"""The command line `python -m tsfm_lab.runs`: launch, execute, watch and report runs."""
