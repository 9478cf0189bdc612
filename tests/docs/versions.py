"""Checks that every operator of ONNX, in every version it ever had, has a form that imports it.

usage: versions.py PAGE      PAGE is what `sinter list ops --markdown` prints

A form serves from its opset on until a newer one takes over, so a version needs a form that is not newer. What waits is
listed with its reason and may not have a form.
"""

import re
import sys

import onnx.defs


WAITING = {"ImageDecoder": "decoding of image files is not there yet"}


def forms(page):
    """Name (with domain) → opsets, from the page's table of ONNX operators."""
    found = {}
    table = page.partition("\n## ONNX\n")[2].partition("\n## ")[0]
    for line in table.splitlines():
        row = re.match(r"\| ([\w.]+) \| (\d+(?:, \d+)*) \|", line)
        if row:
            found[row[1]] = [int(v) for v in row[2].split(", ")]
    return found


def main():
    with open(sys.argv[1]) as file:
        known = forms(file.read())
    if not known:
        sys.exit("the page has no table of operators")
    versions, missing = 0, {}
    for schema in onnx.defs.get_all_schemas_with_history():
        versions += 1
        name = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
        if min(known.get(name, [schema.since_version + 1])) > schema.since_version:
            missing.setdefault(name, []).append(schema.since_version)
    print(f"{versions - sum(map(len, missing.values()))} of {versions} versions of operators have a form")
    for name, reason in WAITING.items():
        if missing.pop(name, None) is None:
            missing[name] = []
            print(f"FAIL {name}: said to wait ({reason}), and has a form")
    for name, opsets in sorted(missing.items()):
        if opsets:
            print(f"FAIL {name}: no form for opset {', '.join(map(str, sorted(opsets)))}")
    return not missing


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
