"""Load on a server process: exports to serve, questions with known answers, closed and open loops."""
