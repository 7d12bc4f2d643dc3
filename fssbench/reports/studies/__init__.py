"""Questions over several results: which differences are real, what the support matters."""
