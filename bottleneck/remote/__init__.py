"""Other machines: buckets and web servers, read and written through fsspec (extra ``remote``)."""
