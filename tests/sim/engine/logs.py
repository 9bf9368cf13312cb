"""A run as a log of lines, to be written down beside its scenario."""

from vsim.sim.engine.result import EngineResult


def log(result: EngineResult) -> str:
    """Steps and copies by the time of their start: start, end, and what it was."""
    lines = [
        (start, end, f"step  prefill {prefill} decode {decode}")
        for start, end, prefill, decode in zip(
            result.step_log.start_ns.tolist(),
            result.step_log.end_ns.tolist(),
            result.step_log.prefill_tokens.tolist(),
            result.step_log.decode_tokens.tolist(),
            strict=True,
        )
    ]
    if result.operations is not None:
        for row in result.operations.to_pylist():
            pages = len(row["pages"]) // 2
            what = f"copy  {row['source_tier']} > {row['target_tier']}  {pages} pages"
            lines.append((row["submit_ns"], row["end_ns"], what))
    return "\n" + "".join(f"{start:>7} {end:>7}  {what}\n" for start, end, what in sorted(lines))
