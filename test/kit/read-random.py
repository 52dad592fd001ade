#!/usr/bin/env python3
"""Reads and hashes files at random until told to stop, or each once, and reports what went wrong.

usage: read-random.py EXPECTED STOP SEED

EXPECTED: lines of `SHA256 PATH`. Reads until the file STOP exists, or with `once` instead of it every file once in random order,
then prints one JSON document: files read, different files, errors, wrong files, the longest single read in seconds.
"""
import hashlib
import json
import os
import random
import sys
import time


def main():
    expected_path, stop, seed = sys.argv[1:]
    with open(expected_path, encoding="utf-8") as file:
        expected = [line.rstrip("\n").split(" ", 1) for line in file]
    choice = random.Random(int(seed))
    report = {"reads": 0, "files": 0, "errors": [], "wrong": [], "longest": 0.0}
    seen = set()
    print("reading", flush=True)
    order = choice.sample(expected, len(expected))
    while order if stop == "once" else not os.path.exists(stop):
        sha256, path = order.pop() if stop == "once" else choice.choice(expected)
        began = time.monotonic()
        try:
            with open(path, "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
            if found != sha256:
                report["wrong"].append(path)
        except OSError as error:
            report["errors"].append(f"{path}: {error}")
        report["reads"] += 1
        report["longest"] = max(report["longest"], time.monotonic() - began)
        seen.add(path)
    report["files"] = len(seen)
    print(json.dumps(report), flush=True)


main()
