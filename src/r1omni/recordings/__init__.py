"""What people do with recordings: analyze them, and see the answers in their own tools."""
