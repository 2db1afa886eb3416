"""The same for programs: /api/v1/. Names are S4's and S0's own; the functions are those of the pages."""
