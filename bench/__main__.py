"""`python -m bench`: every benchmark, one after the other."""

from bench import archive, enrichment, formats, isolation, kafka, page, pipeline, planner, sinks, sources

enrichment.main()
formats.main()
pipeline.main()
planner.main()
archive.main()
kafka.main()
sinks.main()
sinks.outages()
isolation.main()
sources.main()
page.main()
