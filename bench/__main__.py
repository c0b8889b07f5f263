"""`python -m bench`: every benchmark, one after the other."""

from bench import archive, enrichment, formats, kafka, pipeline, sinks, sources

enrichment.main()
formats.main()
pipeline.main()
archive.main()
kafka.main()
sinks.main()
sinks.outages()
sources.main()
