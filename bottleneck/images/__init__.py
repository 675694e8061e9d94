"""Images: folders, tables, lists and memory in, samples and their RGB pixels out."""
