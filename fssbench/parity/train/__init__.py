"""One module for each method whose training steps a case can hold: `setup(case)`."""
