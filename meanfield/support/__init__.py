"""Checks of arguments, files, progress."""
