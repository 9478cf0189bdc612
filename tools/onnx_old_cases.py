#!/usr/bin/env python3
"""Unpacks the backend test cases of older ONNX releases out of their wheels, each content once.

usage: tools/onnx_old_cases.py NEWEST_DATA WHEELS OUT

NEWEST_DATA is the unpacked data of the newest release, WHEELS a folder of wheels. From newest to oldest, a case whose
content no newer release has is written to OUT/<release>/<kind>/<name>. OUT/cases.txt gets a line for every case of every
release: "release kind name folder", the folder being where that content lies. Contents are equal when the models are
(what only tells who wrote them left aside) and all data files are.
"""

import glob
import hashlib
import os
import re
import sys
import zipfile

import onnx

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
PREFIX = "onnx/backend/test/data/"


def model_bytes(data):
    """The model without the version of the format and the names of its writers."""
    model = onnx.ModelProto.FromString(data)
    model.ir_version = 0
    for field in ("producer_name", "producer_version", "doc_string", "domain", "model_version"):
        model.ClearField(field)
    model.graph.ClearField("doc_string")
    for node in model.graph.node:
        node.ClearField("doc_string")
    return model.SerializeToString(deterministic=True)


def content(files):
    """The hash of a case: relative name -> bytes."""
    digest = hashlib.sha256()
    for name in sorted(files):
        data = model_bytes(files[name]) if name == "model.onnx" else files[name]
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.digest()


def wanted(relative):
    return relative == "model.onnx" or (relative.startswith("test_data_set_") and relative.endswith(".pb"))


def from_folder(root):
    for kind in KINDS:
        for name in sorted(os.listdir(os.path.join(root, kind))):
            base = os.path.join(root, kind, name)
            files = {}
            for path in glob.glob(base + "/**", recursive=True):
                relative = os.path.relpath(path, base)
                if os.path.isfile(path) and wanted(relative):
                    with open(path, "rb") as file:
                        files[relative] = file.read()
            if "model.onnx" in files:
                yield kind, name, files


def from_wheel(path):
    cases = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            parts = entry[len(PREFIX):].split("/", 2) if entry.startswith(PREFIX) else []
            if len(parts) == 3 and parts[0] in KINDS and ".." not in entry.split("/") and wanted(parts[2]):
                cases.setdefault((parts[0], parts[1]), {})[parts[2]] = archive.read(entry)
    for (kind, name), files in sorted(cases.items()):
        if "model.onnx" in files:
            yield kind, name, files


def release_of(wheel):
    return re.match(r"onnx-([0-9.]+)-", os.path.basename(wheel)).group(1)


def main():
    newest, wheels, out = sys.argv[1:]
    homes, lines = {}, []
    for kind, name, files in from_folder(newest):
        homes.setdefault(content(files), os.path.join(newest, kind, name))
    by_age = sorted(glob.glob(wheels + "/onnx-*.whl"), reverse=True,
                    key=lambda wheel: [int(part) for part in release_of(wheel).split(".")])
    for wheel in by_age:
        release, count, fresh = release_of(wheel), 0, 0
        for kind, name, files in from_wheel(wheel):
            count += 1
            key = content(files)
            if key not in homes:
                fresh += 1
                homes[key] = os.path.join(out, release, kind, name)
                for relative, data in files.items():
                    target = os.path.join(homes[key], relative)
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    with open(target, "wb") as file:
                        file.write(data)
            lines.append(f"{release} {kind} {name} {homes[key]}\n")
        print(f"onnx {release}: {count} cases, {fresh} of them in no newer release", flush=True)
        if count < 500:
            sys.exit(f"{wheel}: only {count} cases")
    with open(os.path.join(out, "cases.txt"), "w", encoding="utf-8") as file:
        file.writelines(lines)


if __name__ == "__main__":
    main()
