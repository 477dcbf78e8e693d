"""Microsoft Graph as the simulated tenants answer it."""
