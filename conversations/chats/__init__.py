"""What people have and do with it: lists, search, versions, sharing, export. Pages and REST call the same functions."""
