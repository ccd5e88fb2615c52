"""The project over HTTP: uploads within limits, jobs that analyze them, and the API."""
