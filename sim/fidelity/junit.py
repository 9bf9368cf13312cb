"""A check's outcome as JUnit XML: a suite a class, a case a figure, a case a run.

Byte for byte the same for the same outcome: it holds no times.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from vsim.sim.fidelity.check import Checked, ClassScore
from vsim.sim.fidelity.classes import Tolerance
from vsim.sim.fidelity.errors import Errors
from vsim.sim.fidelity.gpu.scoring import CaseClassScore, CasesChecked

MARK = "check"
"""What `vsim.traces.writing` knows the file by: the word behind `vsim` in its suites' name."""


def junit_text(checked: Checked) -> str:
    """Return the document."""
    suites = [_suite(each) for each in checked.classes]
    suites += [_cases_suite(each) for each in checked.cases.classes]
    if checked.cases.missing or checked.cases.failed_there:
        suites.append(_lost_cases(checked.cases))
    if checked.others:
        suites.append(_others(checked))
    root = ET.Element("testsuites", {"name": f"vsim {MARK}"} | _totals(suites))
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _totals(suites: list[ET.Element]) -> dict[str, str]:
    names = ("tests", "failures", "skipped")
    return {name: str(sum(int(suite.attrib[name]) for suite in suites)) for name in names}


def _suite(score: ClassScore) -> ET.Element:
    return _counted(score.name, [*_figures(score), *_runs(score)])


def _cases_suite(score: CaseClassScore) -> ET.Element:
    """A class of cases measured on a GPU: its figures, and each case."""
    beyond = {excess.figure: excess for excess in score.excesses}
    found = []
    for name, reached in score.figures.items():
        case = _case(score.name, name)
        if name in beyond:
            message = f"{reached:.4g} off, {beyond[name].tolerance:g} are tolerated"
            ET.SubElement(case, "failure", {"message": message})
        elif name not in score.granted:
            ET.SubElement(case, "skipped", {"message": f"{reached:.4g} off; not judged"})
        else:
            ET.SubElement(
                case, "system-out"
            ).text = f"{reached:.4g} off, of {score.granted[name]:g}"
        found.append(case)
    for each in score.cases:
        case = _case(score.name, each.name)
        if each.predicted_ns is None:
            message = _printable(f"not predicted: {each.reason}")
            ET.SubElement(case, "failure", {"message": message})
        else:
            ET.SubElement(case, "system-out").text = f"{100 * each.signed:+.1f} %"
        found.append(case)
    return _counted(score.name, found)


def _lost_cases(checked: CasesChecked) -> ET.Element:
    """Cases that should be there, or failed when they were measured."""
    found = []
    for name, count in checked.missing:
        case = _case("cases", name)
        ET.SubElement(case, "failure", {"message": f"{count} cases are missing"})
        found.append(case)
    for file, name, error in checked.failed_there:
        case = _case(file, name)
        ET.SubElement(case, "failure", {"message": _printable(f"failed there: {error}")})
        found.append(case)
    return _counted("cases", found)


def _others(checked: Checked) -> ET.Element:
    cases = []
    for path, reason in checked.others:
        case = _case("files", path)
        ET.SubElement(case, "skipped", {"message": _printable(reason)})
        cases.append(case)
    return _counted("files", cases)


def _counted(name: str, cases: list[ET.Element]) -> ET.Element:
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    texts = {key: str(count) for key, count in counts.items()}
    suite = ET.Element("testsuite", {"name": _printable(name)} | texts)
    suite.extend(cases)
    return suite


def _case(of: str, name: str) -> ET.Element:
    return ET.Element("testcase", {"classname": _printable(of), "name": _printable(name)})


def _figures(score: ClassScore) -> Iterator[ET.Element]:
    tolerance = Tolerance() if score.of is None else score.of.tolerance
    beyond = {excess.figure: excess for excess in score.excesses}
    for name, reached in score.figures.items():
        case = _case(score.name, name)
        granted = getattr(tolerance, name)
        if name in beyond:
            message = f"{reached:.4g} off, {beyond[name].tolerance:g} are tolerated"
            ET.SubElement(case, "failure", {"message": message})
        elif granted is None or name in score.unjudged:
            message = f"{reached:.4g} off; not judged"
            ET.SubElement(case, "skipped", {"message": message})
        else:
            ET.SubElement(case, "system-out").text = f"{reached:.4g} off, of {granted:g}"
        yield case
    if score.missing:
        case = _case(score.name, "runs")
        ET.SubElement(case, "failure", {"message": f"{score.missing} runs are missing"})
        yield case


def _runs(score: ClassScore) -> Iterator[ET.Element]:
    for each in score.runs:
        case = _case(score.name, each.run.name)
        if each.errors is None:
            ET.SubElement(case, "skipped", {"message": _printable(each.reason)})
        elif each.errors.unserved:
            message = f"{each.errors.unserved} requests that were served are rejected"
            ET.SubElement(case, "failure", {"message": message})
        else:
            ET.SubElement(case, "system-out").text = _told(each.errors)
        yield case
    for figure in score.throughputs:
        case = _case(score.name, figure.measured.name)
        if figure.predicted is None:
            ET.SubElement(case, "skipped", {"message": _printable(figure.reason)})
        else:
            ET.SubElement(case, "system-out").text = f"{100 * figure.signed:+.1f} %"
        yield case


def _told(errors: Errors) -> str:
    parts = [
        f"{name}: median {100 * each.median:.1f} %, mean {100 * each.signed:+.1f} %"
        for name, each in errors.latencies.items()
    ]
    return "; ".join([*parts, f"makespan {100 * errors.makespan_s.signed:+.1f} %"])


def _printable(text: str) -> str:
    """Leave out what XML can't hold."""
    return "".join(c if c.isprintable() else "?" for c in text)
