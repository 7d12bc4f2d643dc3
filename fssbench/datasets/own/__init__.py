"""A user's own images, in the layouts that annotation tools write: one description, one small reader a format."""
