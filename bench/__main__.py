"""`python -m bench`: every benchmark, one after the other."""

from bench import archive, pipeline

pipeline.main()
archive.main()
