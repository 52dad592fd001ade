"""Reads every file of a tree piece by piece in random order and prints what it found: path (hex), a tab, sha256.

Usage: readers.py DIRECTORY SEED
"""
import hashlib
import os
import random
import sys

PIECE = 50_000


def main() -> None:
    root, seed = os.fsencode(sys.argv[1]), int(sys.argv[2])
    order = random.Random(seed)
    files = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                files[path] = bytearray(os.lstat(path).st_size)
    pieces = [(path, at) for path, content in files.items() for at in range(0, len(content), PIECE)]
    order.shuffle(pieces)
    for path, at in pieces:
        with open(path, "rb", buffering=0) as file:
            wanted = len(files[path][at : at + PIECE])
            got = os.pread(file.fileno(), wanted, at)
            if len(got) != wanted:
                sys.exit(f"{path!r}: {len(got)} bytes at {at} where {wanted} are")
            files[path][at : at + wanted] = got
    for path, content in sorted(files.items()):
        print(path[len(root) :].hex(), hashlib.sha256(content).hexdigest(), sep="\t")


main()
