"""`collect.py JOB`: a listing or both, with dlt's REST source, into a folder of JSON lines.

JOB is JSON: base_url, key, since, tenant (that listing too), folder, lag_s.

An incremental resource per listing: from the newest `effective_at` on that it has seen, less the lag; what it knows already at that time
is left out by its id.
"""

import json
import sys

import dlt
from dlt.sources.rest_api import rest_api_source

job = json.loads(sys.argv[1])


def listing(name, parameters):
    incremental = {"cursor_path": "effective_at", "start_param": "effective_at[gte]", "initial_value": job["since"]}
    lag = {"lag": job["lag_s"]} if job["lag_s"] else {}
    return {
        "name": name,
        "primary_key": "id",
        "write_disposition": "append",
        "endpoint": {
            "path": "organization/audit_logs",
            "params": {"limit": 100, **parameters},
            "data_selector": "data",
            "incremental": {**incremental, **lag, "row_order": "desc"},
        },
    }


source = rest_api_source(
    {
        "client": {
            "base_url": job["base_url"],
            "auth": {"type": "bearer", "token": job["key"]},
            "paginator": {
                "type": "cursor",
                "cursor_path": "last_id",
                "cursor_param": "after",
                "has_more_path": "has_more",
            },
        },
        "resources": [
            listing("organization", {}),
            *([listing("tenant", {"tenant_only": "true"})] if job["tenant"] else []),
        ],
    },
    max_table_nesting=0,
)
pipeline = dlt.pipeline(
    "openai_audit",
    pipelines_dir=job["folder"] + "/pipelines",
    destination=dlt.destinations.filesystem(bucket_url="file://" + job["folder"] + "/output"),
    dataset_name="audit",
)
pipeline.run(source, loader_file_format="jsonl")
