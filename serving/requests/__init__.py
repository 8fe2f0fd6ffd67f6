"""What the clients share: rows that become requests, and answers that become arrays."""
