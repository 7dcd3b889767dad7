"""The HTTP API and the page: one process that answers searches, and changes what answers them without a failed request."""
