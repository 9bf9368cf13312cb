"""The highest load that meets an SLO, what it costs, and what would change that."""
