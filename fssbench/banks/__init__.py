"""Episode banks: episodes drawn once and frozen in an HDF5 file."""
