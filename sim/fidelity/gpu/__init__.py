"""Cases measured on a GPU: what they are, what is predicted for each, and what was recorded."""
