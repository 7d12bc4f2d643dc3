"""One module for each method that a case can name: `outputs(case)`, and `TOLERANCES` where 1e-4 is too strict."""
