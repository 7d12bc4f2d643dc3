"""How each method is trained: the authors' recipe (`paper`) and the common small one (`lite`), as data."""
