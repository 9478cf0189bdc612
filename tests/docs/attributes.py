"""Checks that the importer knows the attributes of every operator as ONNX's and ONNX Runtime's schemas list them.

usage: attributes.py [--fix]      --fix writes the list in src/frontends/onnx/attribute_names.cpp anew

The list is the union over all versions of an operator. Lines above "# schemas" are operators that no schema describes
any more.
"""

import re
import sys

import onnx.defs
import onnxruntime.capi.onnxruntime_pybind11_state as runtime

FILE = "src/frontends/onnx/attribute_names.cpp"
MARK = "# schemas\n"
# Operators of these domains that ONNX Runtime makes for itself have those of the operator they stand for.
SKIPPED = ("com.ms.internal.nhwc", "com.microsoft.nchwc")


def listed():
    known = {}
    for schema in list(onnx.defs.get_all_schemas_with_history()) + runtime.get_all_operator_schema():
        if schema.domain in SKIPPED:
            continue
        name = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
        known.setdefault(name, set()).update(schema.attributes.keys())
    return "".join(f"{name}:{''.join(' ' + a for a in sorted(known[name]))}\n" for name in sorted(known))


def main():
    with open(FILE) as file:
        text = file.read()
    found = re.search(rf"(?<={MARK})(.*?)(?=\)\")", text, re.DOTALL)
    if not found:
        sys.exit(f"{FILE} has no list")
    fresh = listed()
    if "--fix" in sys.argv[1:]:
        with open(FILE, "w") as file:
            file.write(text[:found.start()] + fresh + text[found.end():])
        return True
    have, wanted = set(found[0].splitlines()), set(fresh.splitlines())
    for line in sorted(wanted - have):
        print(f"FAIL the list lacks    {line}")
    for line in sorted(have - wanted):
        print(f"FAIL no schema says    {line}")
    print(f"{len(wanted & have)} of {len(wanted)} operators have the attributes of their schemas")
    return have == wanted


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
