"""The course wing: what the lessons need beside the library, which knows nothing of it."""
