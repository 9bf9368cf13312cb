"""What a run gives: metrics, verdict, tables, and the result folder."""
