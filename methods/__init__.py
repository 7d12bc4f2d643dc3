"""Few-shot segmentation methods, one file each, named after the method."""
