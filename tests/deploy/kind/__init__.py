"""Provider kind: pure parts here; real clusters in test_real.py, where the machine can have them."""
