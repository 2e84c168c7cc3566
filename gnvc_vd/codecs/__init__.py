"""Both codecs behind one contract: by name, from and to files, and what a stream says of itself."""
