"""What papers print, and what separates their measurements from ours."""
