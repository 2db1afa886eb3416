"""What each process counts, for Prometheus. Every process is a target of its own: nothing is shared or in the way.

Labels are routes, states and names that staff gave: never an id, never a brand's content. Nothing here is done for each
token. docs/monitoring.md explains each name.
"""

from prometheus_client import Counter, Gauge, Histogram

requests = Counter("chatsite_requests", "Requests answered.", ["method", "route", "status"])
request_seconds = Histogram(
    "chatsite_request_seconds",
    "Seconds until an answer was ready; of a stream, until it began.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
open_streams = Gauge("chatsite_open_streams", "Streams that are being read now.")
turns_begun = Counter("chatsite_turns_begun", "Answers that this process began to write.")
turns_ended = Counter("chatsite_turns_ended", "Answers that this process ended, by how.", ["status"])
tokens = Counter("chatsite_tokens", "Tokens charged.", ["kind"])
first_piece_seconds = Histogram(
    "chatsite_first_piece_seconds",
    "Seconds from asking a provider to its first piece.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30),
)
provider_calls = Counter("chatsite_provider_calls", "Calls of a provider, by model and outcome.", ["model", "outcome"])
checkpointed_at = Gauge("chatsite_checkpoint_timestamp_seconds", "When live answers were last written to the database.")
