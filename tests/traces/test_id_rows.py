"""The row of an id, whether or not ids rise."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vsim.traces.id_rows import IdRows


@given(
    ids=st.one_of(
        st.lists(st.integers(0, 9), min_size=1, max_size=12),
        st.integers(1, 9).map(lambda n: list(range(n))),
    ),
    wanted=st.lists(st.integers(-1, 12), max_size=6),
)
def test_ids_are_found_where_a_plain_search_finds_them(ids: list[int], wanted: list[int]) -> None:
    rows = IdRows(np.array(ids, dtype=np.int64))
    found = rows.of(np.array(wanted, dtype=np.int64)).tolist()
    assert found == [ids.index(i) if i in ids else -1 for i in wanted]
    assert rows.repeated().tolist() == [i in ids[:row] for row, i in enumerate(ids)]
