"""Strings that people give and read: names in one form, addresses without their secrets."""
