"""Seeded random inputs that no capture would hold; each case is made anew from seed and number."""
