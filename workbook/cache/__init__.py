"""Heavy results: keys that say what they were made from, whole files or none, shared by several processes."""
