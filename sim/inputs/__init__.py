"""Reading YAML and explaining what is wrong in it, with places."""
