"""The vendor and nothing but the vendor: no Django, no settings, no models."""
