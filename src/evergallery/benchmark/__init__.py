"""The protocols of the papers, run for every method alike: result files, tables and plots."""
