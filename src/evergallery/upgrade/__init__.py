"""Upgrades that one can trust: what a change of the model costs, whether it may be made, and the way back."""
