"""Handler of the metrics, in the form that the scraper asks for."""

import gzip

from prometheus_client.exposition import choose_encoder

from worker.web.call import Call
from worker.web.endpoint import Reply


def get_metrics(call: Call) -> Reply:
    try:
        encode, media_type = choose_encoder(call.headers.get("accept", ""))
    except ValueError:  # a version that is no number
        encode, media_type = choose_encoder("")
    body = encode(call.context.registry)
    headers = {"Content-Type": media_type, "Vary": "Accept, Accept-Encoding"}
    if "gzip" in call.headers.get("accept-encoding", ""):
        return Reply(gzip.compress(body), headers=headers | {"Content-Encoding": "gzip"})
    return Reply(body, headers=headers)
