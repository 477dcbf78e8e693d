"""Microsoft Graph: links, ``$batch`` and decoding. Does not depend on Postgres."""
