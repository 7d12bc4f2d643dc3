"""Data sets: which images, which label map, which classes, which fold holds which classes."""
