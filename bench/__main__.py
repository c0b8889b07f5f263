"""`python -m bench`: every benchmark, one after the other."""

from bench import archive, formats, pipeline

formats.main()
pipeline.main()
archive.main()
