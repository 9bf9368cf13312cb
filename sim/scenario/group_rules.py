"""Settings that have no meaning yet with a model whose layers keep KV in several groups.

Windows, chunks and states make groups; one group of full attention takes every setting.
"""

from vsim.sim.scenario.case import Case, Found


def group_settings(case: Case) -> Found:
    """Refuse by name what would be simulated wrongly."""
    if not case.pages.grouped:
        return
    names = ", ".join(each.group.name for each in case.pages.groups)
    why = f"is not simulated with {case.scenario.model}, whose layers keep KV as {names}"
    if case.engine.batching == "static":
        yield ("engine", "batching"), f"static {why}; write continuous"
    if case.engine.movement == "mapped":
        yield ("engine", "movement"), f"mapped {why}: their pages differ in size; write paged"
    if case.scenario.output.operations == "all":
        yield ("output", "operations"), f"all {why}; write transfers"
    block, page = case.engine.block_tokens, case.engine.page_or_block_tokens
    if page > block and "block_tokens" in case.engine.model_fields_set and case.caching:
        yield (
            ("engine", "block_tokens"),
            f"{block} finer than a page does nothing: of KV in groups ({names}) only full pages "
            f"are shared; write page_tokens: {block}, or remove it",
        )
