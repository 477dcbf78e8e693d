"""Microsoft Graph: links, walks, batches, and bytes understood. Knows nothing of Postgres."""
