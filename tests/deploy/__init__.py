"""Tests of the ground: the fleets that all other tests stand on."""
