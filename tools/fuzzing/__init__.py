"""What `tools/fuzz.py` throws at the library (`values`), and at what (`targets`)."""
