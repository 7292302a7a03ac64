"""DynCity: labelled 4D semantic occupancy, generated. This package is the method, on one device."""

__version__ = "0.1.0"
