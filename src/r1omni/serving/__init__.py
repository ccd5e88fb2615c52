"""What strangers send: uploads within limits."""
