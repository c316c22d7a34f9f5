"""Scripts for people who work on Donjon. Nothing here is shipped."""
