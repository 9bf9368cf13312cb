"""plain_table: a table without rules, as commands print them."""

from rich.table import Table


def plain_table(*columns: str) -> Table:
    """Make one with these headings: the first column to the left, figures to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table
